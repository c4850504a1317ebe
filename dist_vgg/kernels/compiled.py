"""The compiled kernel set: Winograd's and direct convolution, products and pooling, by Numba.

The signatures are those of `reference`; passes/ has the loops. Each sum has a stated order that
depends on its own numbers alone, so the bits are the same on every processor, and for any number of
samples that run together.
"""

import numpy as np

from dist_vgg.kernels import exact_loss, reference
from dist_vgg.kernels.arithmetic import EXACT
from dist_vgg.kernels.passes import direct, linear, pool, winograd
from dist_vgg.kernels.passes.lanes import LANES
from dist_vgg.kernels.passes.products import DEPTH, address, panel_width
from dist_vgg.kernels.protocol import Grads

NAME, VERSION, ARITHMETIC = "compiled", 1, EXACT

relu_forward, relu_backward = reference.relu_forward, reference.relu_backward
dropout_forward = reference.dropout_forward
softmax, cross_entropy = exact_loss.softmax, exact_loss.cross_entropy

WHOLE = 256 * 256  # channels times filters whose transformed filters are made once
FEWEST_TILES, MOST_TILES = 64, 128  # of a block
FEWEST_CHANNELS = 16  # with fewer, Winograd's transforms cost more than they save
PLACES = 36  # of a tile


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
    winograd.forward(
        address(x.dtype),
        x,
        w,
        b,
        relu,
        y,
        s.at_once,
        s.whole,
        s.wc,
        s.wf,
        s.lines,
        s.sheet,
        s.v,
        s.u,
        s.m,
    )
    return y


def conv2d_backward(
    dy: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
    grads: Grads,
    need_dx: bool = True,
    y: np.ndarray | None = None,
) -> np.ndarray | None:
    """Write the gradients of filters and bias; return that of the input, if needed."""
    # dy and y are (N,H,W,F), x and dx are (N,H,W,C), w and dw are (3,3,C,F), db is (F,)
    dy, x, w = map(_plain, (dy, x, w))
    y = None if y is None else _plain(y)
    dx = aligned(x.shape, x.dtype) if need_dx else None
    few = min(w.shape[2:]) < FEWEST_CHANNELS
    for part, dw, db in grads:
        rectified = dy[part] if y is None else y[part]
        of_part = dy[part], x[part], rectified, y is not None
        if few:
            _direct_gradients(*of_part, dw, db)
        else:
            _winograd_backward(*of_part, w, dw, db, None if dx is None else dx[part])
    if few and dx is not None:
        # The adjoint of a convolution is the convolution with the filters turned by 180 degrees.
        turned = np.ascontiguousarray(w[::-1, ::-1].transpose(0, 1, 3, 2))
        _direct(dy, y, turned, np.zeros(w.shape[2], w.dtype), False, dx)
    return dx


def maxpool_forward(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest of each 2x2 window, and which of the four it was: of equal ones the first."""
    # x is (N,H,W,C) with H and W even, y and choice are (N,H/2,W/2,C)
    x = _plain(x)
    n, height, width, channels = x.shape
    y = aligned((n, height // 2, width // 2, channels), x.dtype)
    choice = np.empty(y.shape, np.uint8)
    pool.forward(x, y, choice)
    return y, choice


def maxpool_backward(dy: np.ndarray, choice: np.ndarray) -> np.ndarray:
    """Pass each gradient to the pixel that was the largest of its window."""
    # dy and choice are (N,H/2,W/2,C), dx is (N,H,W,C)
    dy = _plain(dy)
    n, height, width, channels = dy.shape
    dx = aligned((n, 2 * height, 2 * width, channels), dy.dtype)
    pool.backward(dy, choice, dx)
    return dx


def linear_forward(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Multiply by a matrix and add a bias."""
    # x is (N,C), w is (C,F), b is (F,), y is (N,F)
    x, w, b = map(_plain, (x, w, b))
    outputs = w.shape[1]
    width = panel_width(outputs)
    y = np.empty((len(x), outputs), x.dtype)
    edge = aligned((linear.FORWARD * width,), x.dtype)
    sums = aligned((len(x) * _padded(outputs, width),), x.dtype)
    linear.forward(address(x.dtype), x, w, b, y, edge, sums, width)
    return y


def linear_backward(dy: np.ndarray, x: np.ndarray, w: np.ndarray, grads: Grads) -> np.ndarray:
    """Write the gradients of matrix and bias; return that of the input."""
    # dy is (N,F), x and dx are (N,C), w and dw are (C,F), db is (F,)
    dy, x, w = map(_plain, (dy, x, w))
    n, outputs = dy.shape
    width = panel_width(outputs)
    out = aligned((linear.ROWS * width,), dy.dtype)
    for part, dw, db in grads:
        edge = aligned((len(dy[part]) * width,), dy.dtype)
        linear.backward_weights(address(dy.dtype), dy[part], x[part], dw, db, edge, out, width)
    width = panel_width(n)
    dx = np.empty(x.shape, x.dtype)
    turned = aligned((_padded(n, width) * outputs,), dy.dtype)
    sums = aligned((linear.ROWS * width,), dy.dtype)
    linear.backward_input(address(dy.dtype), dy, w, dx, turned, sums, width)
    return dx


def _plain(array: np.ndarray) -> np.ndarray:
    """The array as compiled functions take it: contiguous, and not marked as read-only."""
    return np.require(array, requirements=["C", "W"])


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
    """Memory for the blocks of a convolution by Winograd's method."""

    def __init__(self, x: np.ndarray, filters: int, backward: bool = False) -> None:
        n, height, width, channels = x.shape
        rows, columns = n * -(-height // 4), -(-width // 4)  # of tiles
        self.wc, self.wf = panel_width(channels), panel_width(filters)
        padded_c, padded_f = _padded(channels, self.wc), _padded(filters, self.wf)
        self.whole = channels * filters <= WHOLE
        tiles = min(max(FEWEST_TILES, channels, filters), MOST_TILES)
        chain = max(1, winograd.CHAIN // columns)
        at_once = chain * max(1, tiles // (chain * columns))
        self.at_once = rows if backward and not self.whole else min(rows, at_once)
        tiles = self.at_once * columns
        self.lines = aligned(
            (max(6 * (4 * columns + 2) * LANES, 48 * (channels + LANES)),), x.dtype
        )
        self.sheet = aligned((PLACES * LANES,), x.dtype)
        self.v = spread(padded_c * tiles, x.dtype)
        self.m = spread(padded_f * tiles, x.dtype)
        if self.whole:
            self.u = spread(max(padded_f * channels, padded_c * filters), x.dtype)
        else:
            self.u = spread(DEPTH * max(self.wc, self.wf), x.dtype)
        if backward:
            self.sums = aligned((padded_f,), x.dtype)
            self.turned = aligned(
                (9 * (padded_c * filters if self.whole else self.wc * DEPTH),), x.dtype
            )
            self.du = spread(padded_f * channels if self.whole else self.wc * self.wf, x.dtype)


def _winograd_backward(
    dy: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    relu: bool,
    w: np.ndarray,
    dw: np.ndarray,
    db: np.ndarray,
    dx: np.ndarray | None,
) -> None:
    """The gradients of one micro-batch, by Winograd's method."""
    s = _Scratch(x, dy.shape[-1], backward=True)
    winograd.backward(
        address(x.dtype),
        dy,
        x,
        w,
        y,
        relu,
        dx is not None,
        dw,
        db,
        x if dx is None else dx,
        s.at_once,
        s.whole,
        s.wc,
        s.wf,
        s.lines,
        s.sheet,
        s.sums,
        s.turned,
        s.v,
        s.u,
        s.m,
        s.du,
    )


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
    direct.forward(
        address(x.dtype),
        x,
        x if y is None else y,
        y is not None,
        w,
        b,
        relu,
        padded,
        panels,
        row,
        out,
        width,
    )


def _direct_gradients(
    dy: np.ndarray, x: np.ndarray, y: np.ndarray, relu: bool, dw: np.ndarray, db: np.ndarray
) -> None:
    """The gradients of filters and bias of one micro-batch."""
    _, height, wide, channels = x.shape
    filters = dy.shape[-1]
    width = panel_width(filters)
    all_filters = _padded(filters, width)
    padded = aligned(((height + 2) * (wide + 2) * channels,), x.dtype)
    row = aligned((wide * all_filters,), x.dtype)
    sums = aligned((all_filters,), x.dtype)
    partial = aligned((9 * channels * all_filters,), x.dtype)
    direct.backward(address(x.dtype), dy, x, y, relu, padded, row, sums, dw, db, partial, width)


def _padded(count: int, width: int) -> int:
    """The columns of the panels that hold so many."""
    return -(-count // width) * width
