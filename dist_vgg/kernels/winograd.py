"""Fast 3x3 convolution: Winograd's minimal filtering, 2.25 multiplications an output, not 9.

Lavin and Gray, "Fast algorithms for convolutional neural networks", CVPR 2016. The image is
cut into tiles of 6x6 pixels, one for each 4x4 pixels of the output, so that they overlap by
two. With x a tile of one channel, w a filter, and y its 4x4 pixels of the output,

    y = A' [ (G w G') * (B' x B) ] A            ' transposed; * element by element, summed
                                                over the channels
so that at each of the 36 places of a tile, all tiles, channels and filters make one product
of matrices. Backward is the exact adjoint of each step in reverse order, and one transform
of dy serves both gradients.

Every step is `matmul` on views. A transform goes along the height of the images first, for
whole lines of pixels at once, and then along the width, so nothing is unfolded or padded.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from dist_vgg.kernels.reference import add_bias, relu_backward, relu_forward

TILE, STEP = 6, 4  # pixels of a tile, and of its part of the output

# Interpolation at the points 0, p, -p, q, -q and infinity. Lavin and Gray have p = 1, q = 2;
# with these, which float32 holds exactly, rounding errors are a third as large. Barabasz,
# Anderson, Soodhalter and Gregg, "Error analysis and improving the accuracy of Winograd
# convolution for deep neural networks", ACM TOMS 46 (2020), say why points matter.
p, q = 5 / 8, 3 / 2
pp, qq = p**2, q**2
BT = np.array([
    [pp * qq,       0, -pp - qq,        0, 1, 0],
    [0,       -p * qq,      -qq,        p, 1, 0],
    [0,        p * qq,      -qq,       -p, 1, 0],
    [0,       -pp * q,      -pp,        q, 1, 0],
    [0,        pp * q,      -pp,       -q, 1, 0],
    [0,       pp * qq,        0, -pp - qq, 0, 1],
])  # fmt: skip
G = np.array([
    np.array([1,  0,  0]) / (pp * qq),
    np.array([1,  p, pp]) / (2 * pp * (pp - qq)),
    np.array([1, -p, pp]) / (2 * pp * (pp - qq)),
    np.array([1,  q, qq]) / (2 * qq * (qq - pp)),
    np.array([1, -q, qq]) / (2 * qq * (qq - pp)),
    np.array([0,  0,  1]),
])  # fmt: skip
AT = np.array([
    [1,      1,       1,      1,       1, 0],
    [0,      p,      -p,      q,      -q, 0],
    [0,     pp,      pp,     qq,      qq, 0],
    [0, p * pp, -p * pp, q * qq, -q * qq, 1],
])  # fmt: skip

BLOCK = 256  # tiles to work on at a time: enough for BLAS, and few enough for the cache
FILTER_BYTES = 10 << 20  # transformed filters to have at a time: four times those of w
FEWEST_TILES, FEWEST_CHANNELS = 8, 16  # with less, transforms cost more than they save
# OpenBLAS multiplies small matrices (m*n*k of at most this) without copying them first.
SMALL, FEWEST_ROWS, FEW_TILES = 1_000_000, 64, 32


def suits(shape: tuple[int, ...], filters: int) -> bool:
    """Whether this beats the direct convolution: a rule of shapes alone, for equal bits."""
    n, height, width, channels = shape
    tiles = n * (height // STEP) * (width // STEP)
    whole = height % STEP == 0 and width % STEP == 0
    return whole and tiles >= FEWEST_TILES and min(channels, filters) >= FEWEST_CHANNELS


def conv2d_forward(x: np.ndarray, w: np.ndarray, b: np.ndarray, relu: bool = False) -> np.ndarray:
    """Convolve with 3x3 filters, stride 1, zero padding that keeps the size; then rectify."""
    # x is (N,H,W,C) with H and W multiples of 4, w is (3,3,C,F), b is (F,), y is (N,H,W,F)
    _, height, width, channels = x.shape
    filters = w.shape[-1]
    rows, columns = height // STEP, width // STEP  # of tiles
    at = _matrices(x.dtype).at
    y = np.empty((*x.shape[:3], filters), x.dtype)
    u = _Filters(w, len(x) * rows * columns)
    for block in _blocks(len(x), rows * columns):
        n = len(x[block])
        lines = np.empty((n, rows, TILE, width * channels), x.dtype)
        _cut(x[block].reshape(n, height, -1), lines)
        sums = np.empty((n, rows, TILE, width * filters), x.dtype)
        pixels = lines.reshape(n * rows, TILE, width, channels).swapaxes(0, 1)
        groups = sums.reshape(n * rows, TILE, columns, STEP, filters).swapaxes(0, 1)
        for places in u.places:
            tiles = (len(pixels[places]), n * rows, columns)
            v = _placewise(tiles, channels, x.dtype)
            m = _placewise(tiles, filters, x.dtype)
            _cut(pixels[places], v)
            for part in u.parts:
                _multiply(v, u.at(places, part), m[..., part])
            np.matmul(at, m, out=groups[places])
        y_block = y[block]
        np.matmul(at, sums, out=y_block.reshape(n, rows, STEP, -1))
        add_bias(y_block, b, width)
        if relu:
            relu_forward(y_block)
    return y


def conv2d_backward(
    dy: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
    dw: np.ndarray,
    db: np.ndarray,
    need_dx: bool = True,
    y: np.ndarray | None = None,
) -> np.ndarray | None:
    """Write the gradients of filters and bias into dw and db; return that of the input.

    With y, the rectified output, dy is first set to zero, in place, where y is.
    """
    # dy and y are (N,H,W,F), x and dx are (N,H,W,C), w and dw are (3,3,C,F), db is (F,)
    _, height, width, channels = x.shape
    filters = w.shape[-1]
    rows, columns = height // STEP, width // STEP
    a = _matrices(x.dtype).at.T
    dx = np.empty(x.shape, x.dtype) if need_dx else None
    u = _Filters(w, len(x) * rows * columns, backward=True)
    du = np.empty((TILE, TILE, channels, filters), x.dtype) if u.whole else None
    for block in _blocks(len(x), rows * columns):
        n, first = len(x[block]), block.start == 0
        dy_block = dy[block]
        if y is not None:
            relu_backward(dy_block, y[block])
        _add_product(
            np.ones(dy_block.size // filters, x.dtype), dy_block.reshape(-1, filters), db, first
        )
        lines = np.empty((n, rows, TILE, width * channels), x.dtype)
        _cut(x[block].reshape(n, height, -1), lines)
        sums = np.empty((n, rows, TILE, width * filters), x.dtype)
        np.matmul(a, dy_block.reshape(n, rows, STEP, -1), out=sums)
        pixels = lines.reshape(n * rows, TILE, width, channels).swapaxes(0, 1)
        groups = sums.reshape(n * rows, TILE, columns, STEP, filters).swapaxes(0, 1)
        for places in u.places:
            tiles = (len(pixels[places]), n * rows, columns)
            v = np.empty((*tiles, TILE, channels), x.dtype)  # so that `_join` finds neighbours
            m = _placewise(tiles, filters, x.dtype)
            _cut(pixels[places], v)
            np.matmul(a, groups[places], out=m)
            for part in u.parts:
                vt, by_place = _by_place(v[..., part]).swapaxes(-1, -2), _by_place(m)
                if du is None:
                    _transform_back(vt @ by_place, dw[:, :, part], first)
                else:
                    _add_product(vt, by_place, du[places], first)
                if need_dx:
                    # The input's transform has served, and becomes the input's gradient.
                    _multiply(m, u.at(places, part), v[..., part])
            if need_dx:
                _join(v, pixels[places])
        if dx is not None:
            _join(lines, dx[block].reshape(n, height, -1))
    if du is not None:
        _transform_back(du, dw, True)
    return dx


def _placewise(tiles: tuple[int, int, int], channels: int, dtype: np.dtype) -> np.ndarray:
    """(P,M,T,6,C), in memory (P,6,M,T,C): a whole matrix for each place, as BLAS likes it."""
    return np.empty((tiles[0], TILE, *tiles[1:], channels), dtype).transpose(0, 2, 3, 1, 4)


def _blocks(images: int, tiles: int) -> list[slice]:
    """Slices of so many images that they have about BLOCK tiles together."""
    step = max(1, BLOCK // tiles)
    return [slice(i, i + step) for i in range(0, images, step)]


class _Filters:
    """U = G w G', which has four times the numbers of w.

    Where that is little it is computed once, and the six rows of places are dealt with one
    after the other, so that the tiles stay in cache. Else a part of it is computed where it is
    needed, which is faster than to fetch it from memory, and serves all places at once. The
    parts are of the filters, or for backward, which multiplies by U', of the channels.
    """

    def __init__(self, w: np.ndarray, tiles: int, backward: bool = False) -> None:
        self._w, self._backward = w, backward
        size, others = w.shape[2:] if backward else w.shape[:1:-1]
        step = max(1, FILTER_BYTES // (TILE * TILE * others * w.itemsize))
        if tiles < FEW_TILES:
            step = -(-step // 2)  # the products are small then: see SMALL
        self.parts = [slice(i, min(i + step, size)) for i in range(0, size, step)]
        self.whole = len(self.parts) == 1
        if self.whole:
            # U' is the transform of w'. Products with it as a mere view of U would be slower.
            whole = np.ascontiguousarray(w.swapaxes(-1, -2)) if backward else w
            self._u = _transform(whole)
            self.places = [slice(i, i + 1) for i in range(TILE)]
        else:
            self.places = [slice(0, TILE)]

    def at(self, places: slice, part: slice) -> np.ndarray:
        """(P,6,C,F') at a row or all rows of places, for a part of the filters."""
        if self.whole:
            return self._u[places]
        if self._backward:
            return _transform(self._w[:, :, part]).swapaxes(-1, -2)
        return _transform(self._w[..., part])


def _transform(w: np.ndarray) -> np.ndarray:
    """U = G w G' of each channel and filter."""
    # w is (3,3,C,F), u is (6,6,C,F)
    u = np.empty((TILE, TILE, *w.shape[2:]), w.dtype)
    np.matmul(_matrices(w.dtype).gg, _by_channel(w), out=_by_channel(u))
    return u


def _transform_back(du: np.ndarray, dw: np.ndarray, first: bool) -> None:
    """The adjoint of `_transform`."""
    # du is (6,6,C,F), dw is (3,3,C,F)
    _add_product(_matrices(dw.dtype).gg.T, _by_channel(du), _by_channel(dw), first)


def _add_product(a: np.ndarray, b: np.ndarray, total: np.ndarray, first: bool) -> None:
    """total = a @ b for the first block, and total += a @ b for the others."""
    if first:
        np.matmul(a, b, out=total)
    else:
        total += a @ b


def _by_channel(w: np.ndarray) -> np.ndarray:
    """A view of filters or their transform, as a matrix (places,F) for each channel."""
    return w.reshape(-1, *w.shape[2:]).swapaxes(0, 1)


def _by_place(v: np.ndarray) -> np.ndarray:
    """A view of (P,M,T,6,C) as a matrix of tiles and channels for each place: (P,6,M*T,C)."""
    return v.reshape(len(v), -1, *v.shape[3:]).swapaxes(1, 2)


def _multiply(v: np.ndarray, u: np.ndarray, m: np.ndarray) -> None:
    """At each place, multiply the tiles' channels by the filters."""
    # v is (P,M,T,6,C), u is (P,6,C,F), m is (P,M,T,6,F)
    v, m = _by_place(v), _by_place(m)
    tiles = rows = v.shape[2]
    while rows * u.shape[2] * u.shape[3] > SMALL and rows % 2 == 0:
        rows //= 2
    if rows >= FEWEST_ROWS:
        shape = (*v.shape[:2], tiles // rows, rows, -1)
        v, m, u = v.reshape(shape), m.reshape(shape), u[:, :, None]
    np.matmul(v, u, out=m)


def _cut(x: np.ndarray, tiles: np.ndarray) -> None:
    """Cut the last axis but one into overlapping tiles, and transform each by B'."""
    # x is (...,L,K), tiles is (...,L/4,6,K)
    bt, count = _matrices(x.dtype).bt, tiles.shape[-3]
    if count == 1:
        np.matmul(bt[:, 1:5], x, out=tiles[..., 0, :, :])
        return
    # The first and the last tile reach into the padding, whose zeros are not there to read.
    np.matmul(bt[:, 1:], x[..., :5, :], out=tiles[..., 0, :, :])
    if count > 2:
        inner = _windows(x[..., 3:, :], count - 2, TILE, STEP)
        np.matmul(bt, inner, out=tiles[..., 1:-1, :, :])
    np.matmul(bt[:, :5], x[..., -5:, :], out=tiles[..., -1, :, :])


def _join(tiles: np.ndarray, x: np.ndarray) -> None:
    """The adjoint of `_cut`: transform each tile by B, and add them where they overlap."""
    # tiles is (...,L/4,6,K), x is (...,L,K)
    matrices, count = _matrices(x.dtype), tiles.shape[-3]
    b = matrices.bt.T
    if count == 1:
        np.matmul(b[1:5], tiles[..., 0, :, :], out=x)
        return
    # Four pixels each come from two tiles; three at the left and one at the right, from one.
    np.matmul(b[1:4], tiles[..., 0, :, :], out=x[..., :3, :])
    rows = tiles.reshape(*tiles.shape[:-3], count * TILE, -1)
    inner = x[..., 3:-1, :].reshape(*x.shape[:-2], count - 1, STEP, -1)
    np.matmul(matrices.pair, _windows(rows, count - 1, 2 * TILE, TILE), out=inner)
    np.matmul(b[4:5], tiles[..., -1, :, :], out=x[..., -1:, :])


def _windows(x: np.ndarray, count: int, size: int, step: int) -> np.ndarray:
    """A view of `count` windows along the last axis but one: (...,L,K) as (...,count,size,K)."""
    shape = (*x.shape[:-2], count, size, x.shape[-1])
    strides = (*x.strides[:-2], step * x.strides[-2], *x.strides[-2:])
    return as_strided(x, shape, strides, writeable=False)


class _Matrices(NamedTuple):
    bt: np.ndarray
    at: np.ndarray
    gg: np.ndarray  # (36,9): G along height and width at once
    pair: np.ndarray  # (4,12): B for the pixels that two neighbouring tiles share


@cache
def _matrices(dtype: np.dtype) -> _Matrices:
    """The transforms in the precision of the data."""
    pair = np.hstack([np.vstack([BT.T[TILE - 2 :], np.zeros((2, TILE))]), BT.T[:STEP]])
    return _Matrices(*(m.astype(dtype) for m in (BT, AT, np.kron(G, G), pair)))
