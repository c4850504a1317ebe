"""Sums with the same bits on every processor, since the order of their additions is stated.

BLAS and NumPy's own sums add in an order that suits the processor, or the version.
"""

import numpy as np

LANES = 128  # sums side by side in `squares`
FIXED_POINT = 1.5 * 2.0**32  # adding and subtracting it rounds to multiples of 2**-20


def total(x: np.ndarray, axis: int = -1) -> np.ndarray:
    """The sum along an axis in float64, first to last."""
    # x is (..., n, ...), the result (..., ...)
    if not x.shape[axis]:
        return np.zeros(np.delete(x.shape, axis))
    # `accumulate` can't change the order: it returns each sum on the way.
    return np.add.accumulate(x, axis=axis, dtype=np.float64).take(-1, axis)


def squares(x: np.ndarray, grain: int) -> np.ndarray:
    """The sum of squares of each `grain` numbers, in float64.

    Lane i adds numbers i, i + 128 ... in their order. The lanes are then added, first to last.
    """
    # x is (n,), the result (grains,)
    return np.array([_squares(x[lo : lo + grain]) for lo in range(0, len(x), grain)])


def _squares(x: np.ndarray) -> float:
    numbers = np.zeros(-(-len(x) // LANES) * LANES) if len(x) % LANES else np.empty(len(x))
    numbers[: len(x)] = x
    numbers *= numbers
    # NumPy adds row after row here, since its inner loop runs along what is contiguous.
    return float(total(np.add.reduce(numbers.reshape(-1, LANES), axis=0)))


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The product of two matrices of moderate numbers, each first rounded to multiples of 2**-20.

    All sums are then multiples of 2**-40, which float64 holds exactly while they are below 2**13:
    BLAS may add in any order, and fuse what it likes.
    """
    # a is (...,n,k), b is (...,k,m), the result (...,n,m)
    product: np.ndarray = _fixed(a) @ _fixed(b)
    return product


def _fixed(x: np.ndarray) -> np.ndarray:
    rounded: np.ndarray = (x + FIXED_POINT) - FIXED_POINT
    return rounded
