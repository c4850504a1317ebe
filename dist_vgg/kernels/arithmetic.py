"""What a run computes beside its network, in two ways: as NumPy does, or exactly the same anywhere.

The kernel set of a run decides, by its constant ARITHMETIC.
"""

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dist_vgg.kernels import elementary, exact_loss, ordered, rules


@dataclass(frozen=True)
class Arithmetic:
    """Functions that processors or libraries may round differently, and passes over vectors."""

    cos: Callable[[float], float]
    sin: Callable[[float], float]
    tan: Callable[[float], float]
    power: Callable[[Any, float], Any]  # of a float or an array of at least 0
    # (streams, out): fill out[i] with standard normal numbers from streams[i]
    normal: Callable[[Sequence[np.random.Generator], np.ndarray], None]
    matmul: Callable[[np.ndarray, np.ndarray], np.ndarray]  # of small matrices of moderate numbers
    total: Callable[..., Any]  # (x, axis): the sum in float64
    # (x, grain): the sum of squares of each so many float32 numbers, in float64
    squares: Callable[[np.ndarray, int], np.ndarray]
    log_sum_exp: Callable[[np.ndarray, int], np.ndarray]  # (x, axis), which stays with length 1
    # The update rules of optimizers, with the arguments of those in rules.py.
    sgd: Callable[..., None] = rules.sgd
    adam: Callable[..., None] = rules.adam
    adagrad: Callable[..., None] = rules.adagrad
    move_average: Callable[..., None] = rules.move_average


def _normal(streams: Sequence[np.random.Generator], out: np.ndarray) -> None:
    for stream, part in zip(streams, out, strict=True):
        stream.standard_normal(out=part, dtype=part.dtype)


def _total(x: np.ndarray, axis: int = -1) -> Any:
    return np.sum(x, axis=axis, dtype=np.float64)


def _squares(x: np.ndarray, grain: int) -> np.ndarray:
    grains = (x[lo : lo + grain].astype(np.float64) for lo in range(0, len(x), grain))
    return np.array([numbers @ numbers for numbers in grains])


def _log_sum_exp(x: np.ndarray, axis: int) -> np.ndarray:
    result: np.ndarray = np.logaddexp.reduce(x, axis=axis, keepdims=True)
    return result


# The C library's functions, NumPy's and BLAS's: what runs have used from the first version on.
NUMPY = Arithmetic(
    cos=math.cos,
    sin=math.sin,
    tan=math.tan,
    power=operator.pow,
    normal=_normal,
    matmul=operator.matmul,
    total=_total,
    squares=_squares,
    log_sum_exp=_log_sum_exp,
)
# The same bits on every processor.
EXACT = Arithmetic(
    cos=elementary.cos,
    sin=elementary.sin,
    tan=elementary.tan,
    power=elementary.power,
    normal=elementary.normal,
    matmul=ordered.matmul,
    total=ordered.total,
    squares=ordered.squares,
    log_sum_exp=exact_loss.log_sum_exp,
)
