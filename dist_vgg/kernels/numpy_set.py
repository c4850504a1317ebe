"""The NumPy set: Winograd's convolution where it is faster, and the reference for all else."""

from collections.abc import Sequence
from types import ModuleType

import numpy as np

from dist_vgg.kernels import reference, winograd

NAME, VERSION, ARITHMETIC, TOGETHER = "numpy", 1, reference.ARITHMETIC, 0
BY_ROWS = False  # BLAS may round by the shapes of matrices

maxpool_forward, maxpool_backward = reference.maxpool_forward, reference.maxpool_backward
relu_forward, relu_backward = reference.relu_forward, reference.relu_backward
linear_forward, linear_backward = reference.linear_forward, reference.linear_backward
linear_backward_weights = reference.linear_backward_weights
linear_backward_input = reference.linear_backward_input
dropout_forward = reference.dropout_forward
softmax, cross_entropy = reference.softmax, reference.cross_entropy


def conv2d_forward(x: np.ndarray, w: np.ndarray, b: np.ndarray, relu: bool = False) -> np.ndarray:
    """Convolve with stride 1 and zero padding that keeps the size; with `relu`, rectify."""
    # x is (N,H,W,C), w is (kh,kw,C,F), b is (F,), y is (N,H,W,F)
    y: np.ndarray = convolution(x, w).conv2d_forward(x, w, b, relu)
    return y


def conv2d_backward(
    dy: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
    dw: np.ndarray,
    db: np.ndarray,
    need_dx: bool = True,
    y: np.ndarray | None = None,
    counts: Sequence[int] = (),
) -> np.ndarray | None:
    """Write the gradients of filters and bias into dw and db; return that of the input.

    Given y, the rectified output, first set dy to zero where y is, in place.
    """
    # dy and y are (N,H,W,F), x and dx are (N,H,W,C), w and dw are (kh,kw,C,F), db is (F,)
    dx: np.ndarray | None = convolution(x, w).conv2d_backward(dy, x, w, dw, db, need_dx, y, counts)
    return dx


def conv2d_pool_forward(
    x: np.ndarray, w: np.ndarray, b: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Convolve, take the largest of each 2x2 window, and rectify; and which of the four it was."""
    # x is (N,H,W,C) with H and W even, w is (kh,kw,C,F), b is (F,), y and choice are (N,H/2,W/2,F)
    y, choice = maxpool_forward(conv2d_forward(x, w, b))
    # Behind the pooling a rectifier gives the same numbers, with a quarter of the work.
    return relu_forward(y), choice


def conv2d_pool_backward(
    dy: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
    dw: np.ndarray,
    db: np.ndarray,
    y: np.ndarray,
    choice: np.ndarray,
    counts: Sequence[int] = (),
) -> np.ndarray | None:
    """Write the gradients of filters and bias into dw and db; return that of the input."""
    # dy, y and choice are (N,H/2,W/2,F), x and dx are (N,H,W,C), w and dw are (kh,kw,C,F),
    # db is (F,)
    dy = maxpool_backward(relu_backward(dy, y), choice)
    return conv2d_backward(dy, x, w, dw, db, counts=counts)


def convolution(x: np.ndarray, w: np.ndarray) -> ModuleType:
    """The module that convolves an input: a rule of shapes alone, for equal bits on any rank."""
    # x is (N,H,W,C), w is (kh,kw,C,F)
    fast = w.shape[:2] == (3, 3) and winograd.suits(x.shape, w.shape[-1])
    return winograd if fast else reference
