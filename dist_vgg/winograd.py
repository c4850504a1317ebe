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

TILE, STEP = 6, 4  # pixels of a tile, and of its part of the output

# Interpolation at the points 0, p, -p, q, -q and infinity. Lavin and Gray have p = 1, q = 2;
# with these, which float32 holds exactly, rounding errors are a quarter as large. Barabasz,
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
        for places in u.places:
            v = np.empty((len(places), n * rows, columns, TILE, channels), x.dtype)
            m = np.empty((len(places), n * rows, columns, TILE, filters), x.dtype)
            for i, v_i in zip(places, v, strict=True):
                _cut(lines[:, :, i].reshape(-1, width, channels), v_i)
            for part in u.parts:
                _multiply(v, u.at(places, part), m[..., part])
            for i, m_i in zip(places, m, strict=True):
                np.matmul(at, m_i, out=sums[:, :, i].reshape(-1, columns, STEP, filters))
        y_block = y[block]
        np.matmul(at, sums, out=y_block.reshape(n, rows, STEP, -1))
        y_block += b
        if relu:
            np.maximum(y_block, 0, out=y_block)
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
            dy_block *= y[block] > 0
        _add_product(
            np.ones(dy_block.size // filters, x.dtype), dy_block.reshape(-1, filters), db, first
        )
        lines = np.empty((n, rows, TILE, width * channels), x.dtype)
        _cut(x[block].reshape(n, height, -1), lines)
        sums = np.empty((n, rows, TILE, width * filters), x.dtype)
        np.matmul(a, dy_block.reshape(n, rows, STEP, -1), out=sums)
        for places in u.places:
            v = np.empty((len(places), n * rows, columns, TILE, channels), x.dtype)
            m = np.empty((len(places), n * rows, columns, TILE, filters), x.dtype)
            for i, v_i, m_i in zip(places, v, m, strict=True):
                _cut(lines[:, :, i].reshape(-1, width, channels), v_i)
                np.matmul(a, sums[:, :, i].reshape(-1, columns, STEP, filters), out=m_i)
            for part in u.parts:
                vt, by_place = _by_place(v[..., part]).swapaxes(-1, -2), _by_place(m)
                if du is None:
                    _transform_back(vt @ by_place, dw[:, :, part], first)
                else:
                    _add_product(vt, by_place, du[places.start : places.stop], first)
                if need_dx:
                    # The input's transform has served, and becomes the input's gradient.
                    _multiply(m, u.at(places, part), v[..., part])
            if need_dx:
                for i, v_i in zip(places, v, strict=True):
                    _join(v_i, lines[:, :, i].reshape(-1, width, channels))
        if dx is not None:
            _join(lines, dx[block].reshape(n, height, -1))
    if du is not None:
        _transform_back(du, dw, True)
    return dx


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
            self._u = self._transform(self.parts[0])
            self.places = [range(i, i + 1) for i in range(TILE)]
            if others * size * FEWEST_ROWS <= SMALL:
                self._u = np.ascontiguousarray(self._u)
        else:
            self.places = [range(TILE)]

    def at(self, places: range, part: slice) -> np.ndarray:
        """(P,6,C,F') at a row or all rows of places, for a part of the filters."""
        return self._u[places.start : places.stop] if self.whole else self._transform(part)

    def _transform(self, part: slice) -> np.ndarray:
        w = self._w[:, :, part] if self._backward else self._w[..., part]
        # w is (3,3,C,F), u is (6,6,C,F)
        _, _, channels, filters = w.shape
        u = np.empty((TILE, TILE, channels, filters), w.dtype)
        np.matmul(_matrices(w.dtype).gg, _by_channel(w), out=_by_channel(u))
        return u.swapaxes(-1, -2) if self._backward else u


def _transform_back(du: np.ndarray, dw: np.ndarray, first: bool) -> None:
    """The adjoint of the filters' transform."""
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
    """Cut an axis into overlapping tiles, and transform each by B'."""
    # x is (M,L,K), tiles is (M,L/4,6,K)
    bt, count = _matrices(x.dtype).bt, tiles.shape[1]
    if count == 1:
        np.matmul(bt[:, 1:5], x, out=tiles[:, 0])
        return
    # The first and the last tile reach into the padding, whose zeros are not there to read.
    np.matmul(bt[:, 1:], x[:, :5], out=tiles[:, 0])
    if count > 2:
        np.matmul(bt, _windows(x[:, 3:], count - 2, TILE, STEP), out=tiles[:, 1:-1])
    np.matmul(bt[:, :5], x[:, -5:], out=tiles[:, -1])


def _join(tiles: np.ndarray, x: np.ndarray) -> None:
    """The adjoint of `_cut`: transform each tile by B, and add them where they overlap."""
    # tiles is (M,L/4,6,K), x is (M,L,K)
    matrices, count = _matrices(x.dtype), tiles.shape[1]
    b = matrices.bt.T
    if count == 1:
        np.matmul(b[1:5], tiles[:, 0], out=x)
        return
    # Four pixels each come from two tiles; three at the left and one at the right, from one.
    np.matmul(b[1:4], tiles[:, 0], out=x[:, :3])
    pairs = _windows(tiles.reshape(len(x), count * TILE, -1), count - 1, 2 * TILE, TILE)
    inner = x[:, 3:-1].reshape(len(x), count - 1, STEP, -1)
    np.matmul(matrices.pair, pairs, out=inner)
    np.matmul(b[4:5], tiles[:, -1], out=x[:, -1:])


def _windows(x: np.ndarray, count: int, size: int, step: int) -> np.ndarray:
    """A view of `count` windows along axis 1: (M,L,K) as (M,count,size,K)."""
    m, line, k = x.strides
    shape = (len(x), count, size, x.shape[2])
    return as_strided(x, shape, (m, step * line, line, k), writeable=False)


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
