"""The compiled kernel set: Winograd's and direct convolution, products and pooling, by Numba.

The signatures are those of `reference`; passes/ has the loops. Each sum has a stated order that
depends on its own numbers alone, so the bits are the same on every processor, and for any number of
samples that run together.
"""

from collections.abc import Sequence

import numpy as np

from dist_vgg.kernels import exact_loss, reference
from dist_vgg.kernels.arithmetic import EXACT
from dist_vgg.kernels.machine_code import Function
from dist_vgg.kernels.parts import bounds, tree_sum
from dist_vgg.kernels.passes.sizes import (
    CHAIN,
    DEPTH,
    FORWARD,
    LANES,
    PLACES,
    ROWS,
    panel_width,
)

NAME, VERSION, ARITHMETIC, TOGETHER = "compiled", 1, EXACT, 64

relu_forward, relu_backward = reference.relu_forward, reference.relu_backward
dropout_forward = reference.dropout_forward
softmax, cross_entropy = exact_loss.softmax, exact_loss.cross_entropy

FEW = 256 * 256  # channels times filters whose transformed filters are made once
FEWEST_TILES, MOST_TILES = 64, 128  # of a block
FEWEST_CHANNELS = 16  # with fewer, Winograd's transforms cost more than they save


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
    channels, filters = w.shape[2:]
    y = aligned((*x.shape[:3], filters), x.dtype)
    if min(channels, filters) < FEWEST_CHANNELS:
        _direct(x, None, w, b, relu, y)
        return y
    s = _Scratch(x, filters)
    winograd_forward(
        product.address(x.dtype), x, w, b, relu, y, s.at_once, s.few, s.wc, s.wf, s.lines, s.sheet,
        s.v, s.u, s.m,
    )  # fmt: skip
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
    """Write the gradients of filters and bias into dw and db; return that of the input."""
    # dy and y are (N,H,W,F), x and dx are (N,H,W,C), w and dw are (3,3,C,F), db is (F,)
    dy, x, w = map(_plain, (dy, x, w))
    relu, y = y is not None, dy if y is None else _plain(y)
    dx = aligned(x.shape, x.dtype) if need_dx else None
    if min(w.shape[2:]) < FEWEST_CHANNELS:
        _direct_backward(dy, x, w, dw, db, dx, relu, y, counts)
        return dx
    s = _Scratch(x, w.shape[-1], counts)
    at, out = product.address(x.dtype), x if dx is None else dx
    if not s.few:
        winograd_backward_at_once(
            at, dy, x, w, y, relu, need_dx, bounds(counts, len(x)), dw, db, out, s.wc, s.wf,
            s.lines, s.sheet, s.images, s.turned, s.stack, s.parts, s.v, s.u, s.m, s.du,
        )  # fmt: skip
        return dx

    def write(part: slice, dw: np.ndarray, db: np.ndarray) -> None:
        winograd_backward_by_block(
            at, dy[part], x[part], w, y[part], relu, need_dx, part.start == 0,
            bounds((), part.stop - part.start), dw, db, out[part], s.at_once, s.wc, s.wf,
            s.lines, s.sheet, s.images, s.turned, s.stack, s.v, s.u, s.m, s.du,
        )  # fmt: skip

    tree_sum(write, counts, len(x), dw, db)
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
    sums = aligned((len(x) * _padded(outputs, width),), x.dtype)
    matrix_forward(product.address(x.dtype), x, w, b, y, edge, sums, width)
    return y


def linear_backward(
    dy: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
    dw: np.ndarray,
    db: np.ndarray,
    counts: Sequence[int] = (),
) -> np.ndarray:
    """Write the gradients of matrix and bias into dw and db; return that of the input."""
    # dy is (N,F), x and dx are (N,C), w and dw are (C,F), db is (F,)
    dy, x, w = map(_plain, (dy, x, w))
    n, outputs = dy.shape
    width, levels = panel_width(outputs), _levels(counts)
    parts = aligned((levels, ROWS * width), dy.dtype)
    stack = aligned((levels, _padded(outputs, LANES)), dy.dtype)
    edge = aligned((n * width,), dy.dtype)
    at = product.address(dy.dtype)
    matrix_backward_weights(at, dy, x, bounds(counts, n), dw, db, edge, parts, stack, width)
    width = panel_width(n)
    dx = np.empty(x.shape, x.dtype)
    turned = aligned((_padded(n, width) * outputs,), dy.dtype)
    sums = aligned((ROWS * width,), dy.dtype)
    matrix_backward_input(at, dy, w, dx, turned, sums, width)
    return dx


def _plain(array: np.ndarray) -> np.ndarray:
    """The array as compiled functions take it."""
    return np.require(array, requirements=["C", "A"])


def aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array whose first number begins a line of the cache."""
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)


def spread(numbers: int, dtype: np.dtype) -> np.ndarray:
    """(36, numbers and a few more), an odd number of lines of the cache from place to place.

    At distances of a power of two all places of a tile would fall on the same few lines.
    """
    return aligned((PLACES, (-(-numbers // LANES) | 1) * LANES), dtype)


class _Scratch:
    """Memory for the blocks of Winograd's convolution; with `counts`, for its backward."""

    def __init__(self, x: np.ndarray, filters: int, counts: Sequence[int] | None = None) -> None:
        n, height, width, channels = x.shape
        rows, columns = n * -(-height // 4), -(-width // 4)  # of tiles
        self.wc, self.wf = panel_width(channels), panel_width(filters)
        padded_c, padded_f = _padded(channels, self.wc), _padded(filters, self.wf)
        self.few = channels * filters <= FEW
        tiles = min(max(FEWEST_TILES, channels, filters), MOST_TILES)
        chain = max(1, CHAIN // columns)
        at_once = chain * max(1, tiles // (chain * columns))
        self.at_once = min(rows, at_once) if self.few or counts is None else rows
        tiles = self.at_once * columns
        # Of `input_tiles`, and of `input_gradient`.
        lines = max(6 * 8 * (channels + LANES), 6 * (4 * columns + 2) * LANES)
        self.lines = aligned((lines,), x.dtype)
        self.sheet = aligned((PLACES * LANES,), x.dtype)
        self.v = spread(padded_c * tiles, x.dtype)
        self.m = spread(padded_f * tiles, x.dtype)
        if self.few:
            self.u = spread(max(padded_f * channels, padded_c * filters), x.dtype)
        else:
            self.u = spread(DEPTH * max(self.wc, self.wf), x.dtype)
        if counts is not None:
            levels, depth = _levels(counts), filters if self.few else DEPTH
            self.images = aligned((n * filters,), x.dtype)
            self.turned = aligned((9 * (padded_c if self.few else self.wc) * depth,), x.dtype)
            self.stack = aligned((levels, padded_f), x.dtype)
            self.parts = aligned((levels, 9 * self.wc * self.wf), x.dtype)
            self.du = spread(padded_f * channels if self.few else self.wc * self.wf, x.dtype)


def _direct(
    x: np.ndarray, y: np.ndarray | None, w: np.ndarray, b: np.ndarray, relu: bool, out: np.ndarray
) -> None:
    """The direct convolution; given y, of x where y is positive."""
    _, height, wide, channels = x.shape
    filters = out.shape[-1]
    width = panel_width(filters)
    padded = aligned(((height + 2) * (wide + 2) * channels,), x.dtype)
    panels = aligned((9 * channels * _padded(filters, width),), x.dtype)
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
    relu: bool,
    y: np.ndarray,
    counts: Sequence[int],
) -> None:
    """All gradients of a direct convolution."""
    _, height, wide, channels = x.shape
    filters = dy.shape[-1]
    width = panel_width(filters)
    padded = aligned(((height + 2) * (wide + 2) * channels,), x.dtype)
    row = aligned((wide * _padded(filters, width),), x.dtype)
    sums = aligned((_padded(filters, width),), x.dtype)
    partial = aligned((9 * channels * _padded(filters, width),), x.dtype)

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


def _levels(counts: Sequence[int]) -> int:
    """How many sums of parts wait at most, as parts are added along the tree."""
    return len(counts).bit_length() + 1


def _padded(count: int, width: int) -> int:
    """The columns of the panels that hold so many."""
    return -(-count // width) * width
