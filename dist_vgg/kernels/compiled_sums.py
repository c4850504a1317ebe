"""Sums over whole vectors by compiled passes: as fast as memory gives and takes the numbers."""

from collections.abc import Sequence

import numpy as np

from dist_vgg.kernels.machine_code import Function
from dist_vgg.kernels.passes.sizes import AT_A_TIME, SQUARES
from dist_vgg.kernels.scratch import aligned

sum_arrays = Function("dist_vgg.kernels.passes.sums.add_up")
sum_squares = Function("dist_vgg.kernels.passes.sums.squares")


def squares(x: np.ndarray, grain: int) -> np.ndarray:
    """The sum of squares of each `grain` numbers, in float64, as `ordered.squares` has it."""
    # x is (n,), the result (grains,)
    found = np.empty(-(-len(x) // grain))
    sum_squares(x, grain, np.empty(SQUARES), found)
    return found


def add_up(arrays: Sequence[np.ndarray], folds: Sequence[int]) -> None:
    """Add arrays as `ordered.add_up` does, but write the sums that are left and nothing else."""
    # arrays are all (n,)
    places = np.array([array.ctypes.data for array in arrays])
    stack = aligned((len(arrays) * AT_A_TIME,), arrays[0].dtype)
    sum_arrays(places, np.array(folds), len(arrays[0]), stack)
