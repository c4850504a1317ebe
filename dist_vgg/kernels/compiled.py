"""The compiled kernel set: Winograd's and direct convolution, products and pooling, by Numba.

The signatures are those of `reference`; passes/ has the loops. Each sum has a stated order that
depends on its own numbers alone, so the bits are the same on every processor, and for any number of
samples that run together.
"""

from collections.abc import Sequence

import numpy as np

from dist_vgg.kernels import compiled_vectors, exact_loss, reference
from dist_vgg.kernels.machine_code import Function
from dist_vgg.kernels.parts import bounds, tree_sum
from dist_vgg.kernels.passes.sizes import FORWARD, LANES, ROWS, panel_width
from dist_vgg.kernels.scratch import Scratch, aligned, padded_to, tree_levels

NAME, VERSION, TOGETHER, BY_ROWS = "compiled", 1, 64, True
ARITHMETIC = compiled_vectors.ARITHMETIC

relu_forward, relu_backward = reference.relu_forward, reference.relu_backward
dropout_forward = reference.dropout_forward
softmax, cross_entropy = exact_loss.softmax, exact_loss.cross_entropy

FEWEST_CHANNELS = 16  # with fewer, Winograd's transforms cost more than they save
NO_CHOICE = np.empty((0, 0, 0, 0), np.uint8)  # where nothing is pooled


def _pass(name: str) -> Function:
    return Function(f"dist_vgg.kernels.passes.{name}")


product = _pass("products.product")
winograd_forward = _pass("winograd.forward")
winograd_backward_by_block = _pass("winograd.backward_by_block")
winograd_backward_at_once = _pass("winograd.backward_at_once")
direct_forward, direct_backward = _pass("direct.forward"), _pass("direct.backward")
pool_forward, pool_backward = _pass("pool.forward"), _pass("pool.backward")
matrix_forward = _pass("linear.forward")
matrix_backward_input = _pass("linear.backward_input")
matrix_backward_weights = _pass("linear.backward_weights")


def conv2d_forward(x: np.ndarray, w: np.ndarray, b: np.ndarray, relu: bool = False) -> np.ndarray:
    """Convolve with 3x3 filters, stride 1 and zero padding that keeps the size."""
    # x is (N,H,W,C), w is (3,3,C,F), b is (F,), y is (N,H,W,F)
    x, w, b = map(_plain, (x, w, b))
    y = aligned((*x.shape[:3], w.shape[-1]), x.dtype)
    if _suits(w):
        _winograd(x, w, b, relu, y, None)
    else:
        _direct(x, None, w, b, relu, y)
    return y


def conv2d_pool_forward(
    x: np.ndarray, w: np.ndarray, b: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Convolve, take the largest of each 2x2 window, and rectify; and which of the four it was."""
    # x is (N,H,W,C) with H and W even, w is (3,3,C,F), b is (F,), y and choice are (N,H/2,W/2,F)
    if not _suits(w):
        y, choice = maxpool_forward(conv2d_forward(x, w, b))
        return relu_forward(y), choice
    x, w, b = map(_plain, (x, w, b))
    n, height, width, _ = x.shape
    y = aligned((n, height // 2, width // 2, w.shape[-1]), x.dtype)
    choice = np.empty(y.shape, np.uint8)
    _winograd(x, w, b, True, y, choice)
    return y, choice


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
    """Write the gradients of filters and bias into dw and db; return that of the input."""
    # dy and y are (N,H,W,F), x and dx are (N,H,W,C), w and dw are (3,3,C,F), db is (F,)
    dy, x, w = map(_plain, (dy, x, w))
    dx = aligned(x.shape, x.dtype) if need_dx else None
    backward = _winograd_backward if _suits(w) else _direct_backward
    backward(dy, x, w, dw, db, dx, None if y is None else _plain(y), counts)
    return dx


def conv2d_pool_backward(
    dy: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
    dw: np.ndarray,
    db: np.ndarray,
    y: np.ndarray,
    choice: np.ndarray,
    counts: Sequence[int] = (),
) -> np.ndarray:
    """The same through rectifier and pooling: dy is the gradient of y, `conv2d_pool_forward`'s."""
    # dy, y and choice are (N,H/2,W/2,F), x and dx are (N,H,W,C), w and dw are (3,3,C,F), db is (F,)
    dy, x, w, y = map(_plain, (dy, x, w, y))
    dx = aligned(x.shape, x.dtype)
    if _suits(w):
        _winograd_backward(dy, x, w, dw, db, dx, y, counts, choice)
    else:
        dy = maxpool_backward(relu_backward(dy.copy(), y), choice)
        _direct_backward(dy, x, w, dw, db, dx, None, counts)
    return dx


def maxpool_forward(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest of each 2x2 window, and which of the four it was: of equal ones the first."""
    # x is (N,H,W,C) with H and W even, y and choice are (N,H/2,W/2,C)
    x = _plain(x)
    n, height, width, channels = x.shape
    y = aligned((n, height // 2, width // 2, channels), x.dtype)
    choice = np.empty(y.shape, np.uint8)
    pool_forward(x, y, choice)
    return y, choice


def maxpool_backward(dy: np.ndarray, choice: np.ndarray) -> np.ndarray:
    """Pass each gradient to the pixel that was the largest of its window."""
    # dy and choice are (N,H/2,W/2,C), dx is (N,H,W,C)
    dy = _plain(dy)
    n, height, width, channels = dy.shape
    dx = aligned((n, 2 * height, 2 * width, channels), dy.dtype)
    pool_backward(dy, choice, dx)
    return dx


def linear_forward(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Multiply by a matrix and add a bias."""
    # x is (N,C), w is (C,F), b is (F,), y is (N,F)
    x, w, b = map(_plain, (x, w, b))
    outputs = w.shape[1]
    width = panel_width(outputs)
    y = np.empty((len(x), outputs), x.dtype)
    edge = aligned((FORWARD * width,), x.dtype)
    sums = aligned((len(x) * padded_to(outputs, width),), x.dtype)
    matrix_forward(product.address(x.dtype), x, w, b, y, edge, sums, width)
    return y


def linear_backward(
    dy: np.ndarray, x: np.ndarray, w: np.ndarray, dw: np.ndarray, db: np.ndarray,
    counts: Sequence[int] = (),
) -> np.ndarray:  # fmt: skip
    """Write the gradients of matrix and bias into dw and db; return that of the input."""
    # dy is (N,F), x and dx are (N,C), w and dw are (C,F), db is (F,)
    linear_backward_weights(dy, x, dw, db, counts)
    return linear_backward_input(dy, w)


def linear_backward_weights(
    dy: np.ndarray, x: np.ndarray, dw: np.ndarray, db: np.ndarray, counts: Sequence[int] = ()
) -> None:
    """Write the gradients of matrix and bias into dw and db."""
    # dy is (N,F), x is (N,C), dw is (C,F), db is (F,)
    dy, x = map(_plain, (dy, x))
    n, outputs = dy.shape
    width, levels = panel_width(outputs), tree_levels(counts)
    parts = aligned((levels, ROWS * width), dy.dtype)
    stack = aligned((levels, padded_to(outputs, LANES)), dy.dtype)
    edge, at = aligned((n * width,), dy.dtype), product.address(dy.dtype)
    matrix_backward_weights(at, dy, x, bounds(counts, n), dw, db, edge, parts, stack, width)


def linear_backward_input(dy: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return the gradient of the input of a product with a matrix."""
    # dy is (N,F), w is (C,F), dx is (N,C)
    dy, w = map(_plain, (dy, w))
    (n, outputs), width = dy.shape, panel_width(len(dy))
    dx = np.empty((n, len(w)), dy.dtype)
    turned = aligned((padded_to(n, width) * outputs,), dy.dtype)
    sums = aligned((ROWS * width,), dy.dtype)
    matrix_backward_input(product.address(dy.dtype), dy, w, dx, turned, sums, width)
    return dx


def _plain(array: np.ndarray) -> np.ndarray:
    """The array as compiled functions take it."""
    return np.require(array, requirements=["C", "A"])


def _suits(w: np.ndarray) -> bool:
    """Whether there are channels and filters enough for Winograd's convolution."""
    return min(w.shape[2:]) >= FEWEST_CHANNELS


def _winograd(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    relu: bool,
    y: np.ndarray,
    choice: np.ndarray | None,
) -> None:
    """Winograd's convolution; with pooling, given `choice`."""
    s, pool = Scratch(x, w.shape[-1]), choice is not None
    winograd_forward(
        product.address(x.dtype), x, w, b, relu, pool, y, choice if pool else NO_CHOICE, s.at_once,
        s.whole, s.wc, s.wf, s.lines, s.sheet, s.v, s.u, s.m,
    )  # fmt: skip


def _winograd_backward(
    dy: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
    dw: np.ndarray,
    db: np.ndarray,
    dx: np.ndarray | None,
    y: np.ndarray | None,
    counts: Sequence[int],
    choice: np.ndarray | None = None,
) -> None:
    """All gradients of Winograd's convolution; through a rectifier and pooling, given theirs."""
    s, at = Scratch(x, w.shape[-1], counts), product.address(x.dtype)
    need_dx, out = dx is not None, x if dx is None else dx
    relu, y = y is not None, dy if y is None else y
    pool, choice = choice is not None, NO_CHOICE if choice is None else choice
    if not s.whole:
        winograd_backward_at_once(
            at, dy, x, w, y, relu, choice, pool, need_dx, bounds(counts, len(x)), dw, db, out,
            s.wc, s.wf, s.lines, s.sheet, s.images, s.turned, s.stack, s.parts, s.v, s.u, s.m, s.du,
        )  # fmt: skip
        return

    def write(part: slice, dw: np.ndarray, db: np.ndarray) -> None:
        winograd_backward_by_block(
            at, dy[part], x[part], w, y[part], relu, choice[part], pool, need_dx, part.start == 0,
            bounds((), part.stop - part.start), dw, db, out[part], s.at_once, s.wc, s.wf,
            s.lines, s.sheet, s.images, s.turned, s.stack, s.v, s.u, s.m, s.du,
        )  # fmt: skip

    tree_sum(write, counts, len(x), dw, db)


def _direct(
    x: np.ndarray, y: np.ndarray | None, w: np.ndarray, b: np.ndarray, relu: bool, out: np.ndarray
) -> None:
    """The direct convolution; given y, of x where y is positive."""
    _, height, wide, channels = x.shape
    filters = out.shape[-1]
    width = panel_width(filters)
    padded = aligned(((height + 2) * (wide + 2) * channels,), x.dtype)
    panels = aligned((9 * channels * padded_to(filters, width),), x.dtype)
    row = aligned((wide * width,), x.dtype)
    direct_forward(
        product.address(x.dtype), x, x if y is None else y, y is not None, w, b, relu, padded,
        panels, row, out, width,
    )  # fmt: skip


def _direct_backward(
    dy: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
    dw: np.ndarray,
    db: np.ndarray,
    dx: np.ndarray | None,
    y: np.ndarray | None,
    counts: Sequence[int],
) -> None:
    """All gradients of a direct convolution."""
    _, height, wide, channels = x.shape
    filters, relu, y = dy.shape[-1], y is not None, dy if y is None else y
    width = panel_width(filters)
    padded = aligned(((height + 2) * (wide + 2) * channels,), x.dtype)
    row = aligned((wide * padded_to(filters, width),), x.dtype)
    sums = aligned((padded_to(filters, width),), x.dtype)
    partial = aligned((9 * channels * padded_to(filters, width),), x.dtype)

    def write(part: slice, dw: np.ndarray, db: np.ndarray) -> None:
        direct_backward(
            product.address(x.dtype), dy[part], x[part], y[part], relu, padded, row, sums, dw, db,
            partial, width,
        )  # fmt: skip

    tree_sum(write, counts, len(x), dw, db)
    if dx is not None:
        # The adjoint of a convolution is the convolution with the filters turned by 180 degrees.
        turned = np.ascontiguousarray(w[::-1, ::-1].transpose(0, 1, 3, 2))
        _direct(dy, y if relu else None, turned, np.zeros(channels, w.dtype), False, dx)
