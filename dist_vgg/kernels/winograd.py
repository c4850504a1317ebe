"""Fast 3x3 convolution: Winograd's minimal filtering, 2.25 multiplications an output, not 9.

Lavin and Gray, "Fast algorithms for convolutional neural networks", CVPR 2016. The image is
cut into tiles of 6x6 pixels, one for each 4x4 pixels of the output, so that they overlap by
two. With x a tile of one channel, w a filter, and y its 4x4 pixels of the output,

    y = A' [ (G w G') * (B' x B) ] A            ' transposed; * element by element, summed
                                                over the channels
so that at each of the 36 places of a tile, all tiles, channels and filters make one product
of matrices. Backward is the exact adjoint of each step in reverse order, and one transform
of dy serves both gradients. `winograd_transforms` has the matrices and applies them.

Letters in the shapes: M rows of tiles in all images of a block, T tiles in a row, P of the six rows
of places in a tile.
"""

from collections.abc import Sequence

import numpy as np

from dist_vgg.kernels.parts import tree_sum
from dist_vgg.kernels.reference import add_bias, relu_backward, relu_forward
from dist_vgg.kernels.winograd_transforms import (
    STEP,
    TILE,
    add_product,
    cut,
    join,
    matrices,
    transform_filters,
    transform_filters_back,
)

BLOCK = 256  # tiles to work on at a time: enough for BLAS, and few enough for the cache
FILTER_BYTES = 10 << 20  # of transformed filters to hold at a time: four times those of w
FEWEST_TILES, FEWEST_CHANNELS = 8, 16  # with fewer, transforms cost more than they save
# OpenBLAS multiplies small matrices (m*n*k of at most SMALL) without copying them first.
SMALL, FEWEST_ROWS, FEW_TILES = 1_000_000, 64, 32


def suits(shape: tuple[int, ...], filters: int) -> bool:
    """Whether this beats the direct convolution for an input's shape (N,H,W,C) and its filters.

    The rule depends on shapes alone, so that the same micro-batch gets the same bits on any rank.
    """
    n, height, width, channels = shape
    tiles = n * (height // STEP) * (width // STEP)
    whole = height % STEP == 0 and width % STEP == 0
    return whole and tiles >= FEWEST_TILES and min(channels, filters) >= FEWEST_CHANNELS


def conv2d_forward(x: np.ndarray, w: np.ndarray, b: np.ndarray, relu: bool = False) -> np.ndarray:
    """Convolve with 3x3 filters, stride 1 and zero padding that keeps the size.

    With `relu` the output is rectified.
    """
    # x is (N,H,W,C) with H and W multiples of 4, w is (3,3,C,F), b is (F,), y is (N,H,W,F)
    _, height, width, channels = x.shape
    filters = w.shape[-1]
    rows, columns = height // STEP, width // STEP  # of tiles
    at = matrices(x.dtype).at
    y = np.empty((*x.shape[:3], filters), x.dtype)
    u = _Filters(w, len(x) * rows * columns)
    for block in _blocks(len(x), rows * columns):
        n = len(x[block])
        lines = np.empty((n, rows, TILE, width * channels), x.dtype)
        cut(x[block].reshape(n, height, -1), lines)
        sums = np.empty((n, rows, TILE, width * filters), x.dtype)
        pixels = lines.reshape(n * rows, TILE, width, channels).swapaxes(0, 1)
        groups = sums.reshape(n * rows, TILE, columns, STEP, filters).swapaxes(0, 1)
        for places in u.places:
            tiles = (len(pixels[places]), n * rows, columns)
            v = _placewise(tiles, channels, x.dtype)
            m = _placewise(tiles, filters, x.dtype)
            cut(pixels[places], v)
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
    counts: Sequence[int] = (),
) -> np.ndarray | None:
    """Write the gradients of filters and bias into dw and db; return that of the input.

    Given y, the rectified output, first set dy to zero where y is, in place.
    """
    # dy and y are (N,H,W,F), x and dx are (N,H,W,C), w and dw are (3,3,C,F), db is (F,)
    n, height, width, _ = x.shape
    dx = np.empty(x.shape, x.dtype) if need_dx else None
    u = _Filters(w, n * (height // STEP) * (width // STEP), backward=True)

    def write(part: slice, dw: np.ndarray, db: np.ndarray) -> None:
        y_part, dx_part = (None if a is None else a[part] for a in (y, dx))
        _backward(dy[part], x[part], y_part, u, dw, db, dx_part)

    tree_sum(write, counts, n, dw, db)
    return dx


def _backward(
    dy: np.ndarray,
    x: np.ndarray,
    y: np.ndarray | None,
    u: "_Filters",
    dw: np.ndarray,
    db: np.ndarray,
    dx: np.ndarray | None,
) -> None:
    """Backward of one micro-batch, block by block: write dw, db and, where it is wanted, dx."""
    # the shapes are those of conv2d_backward
    _, height, width, channels = x.shape
    filters = dw.shape[-1]
    rows, columns = height // STEP, width // STEP
    du = np.empty((TILE, TILE, channels, filters), x.dtype) if u.whole else None
    for block in _blocks(len(x), rows * columns):
        n, first = len(x[block]), block.start == 0
        dy_block = dy[block]
        if y is not None:
            relu_backward(dy_block, y[block])
        add_product(
            np.ones(dy_block.size // filters, x.dtype), dy_block.reshape(-1, filters), db, first
        )
        lines = np.empty((n, rows, TILE, width * channels), x.dtype)
        cut(x[block].reshape(n, height, -1), lines)
        sums = np.empty((n, rows, TILE, width * filters), x.dtype)
        np.matmul(matrices(x.dtype).at.T, dy_block.reshape(n, rows, STEP, -1), out=sums)
        pixels = lines.reshape(n * rows, TILE, width, channels).swapaxes(0, 1)
        groups = sums.reshape(n * rows, TILE, columns, STEP, filters).swapaxes(0, 1)
        _backward_tiles(groups, pixels, u, dw if du is None else du, first, dx is not None)
        if dx is not None:
            join(lines, dx[block].reshape(n, height, -1))
    if du is not None:
        transform_filters_back(du, dw, True)


def _backward_tiles(
    groups: np.ndarray,
    pixels: np.ndarray,
    u: "_Filters",
    gradient: np.ndarray,
    first: bool,
    need_dx: bool,
) -> None:
    """Backward of a block of images, between its transforms along the height.

    Adds to `gradient`, that of U where U is whole and else that of w, or sets it for the `first`
    block. With `need_dx` the input's gradient takes the place of the input in `pixels`.
    """
    # groups is (6,M,T,4,F), pixels is (6,M,W,C), gradient is (6,6,C,F) or (3,3,C,F)
    a = matrices(pixels.dtype).at.T
    for places in u.places:
        tiles = (len(pixels[places]), *groups.shape[1:3])
        v = np.empty((*tiles, TILE, pixels.shape[-1]), pixels.dtype)  # so `join` finds neighbours
        m = _placewise(tiles, groups.shape[-1], pixels.dtype)
        cut(pixels[places], v)
        np.matmul(a, groups[places], out=m)
        for part in u.parts:
            vt, by_place = _by_place(v[..., part]).swapaxes(-1, -2), _by_place(m)
            if u.whole:
                add_product(vt, by_place, gradient[places], first)
            else:
                transform_filters_back(vt @ by_place, gradient[:, :, part], first)
            if need_dx:
                # The input's transform is not needed again; the input's gradient replaces it.
                _multiply(m, u.at(places, part), v[..., part])
        if need_dx:
            join(v, pixels[places])


def _placewise(tiles: tuple[int, int, int], channels: int, dtype: np.dtype) -> np.ndarray:
    """(P,M,T,6,C), in memory (P,6,M,T,C): a whole matrix for each place, as BLAS likes it."""
    return np.empty((tiles[0], TILE, *tiles[1:], channels), dtype).transpose(0, 2, 3, 1, 4)


def _blocks(images: int, tiles: int) -> list[slice]:
    """Slices of the images that have about BLOCK tiles each."""
    step = max(1, BLOCK // tiles)
    return [slice(i, i + step) for i in range(0, images, step)]


class _Filters:
    """U = G w G', which has four times the numbers of w.

    Where that is little, U is computed once (`whole`), and the six rows of places are worked on
    one after the other, so that the tiles stay in cache. Otherwise a part of U is computed where it
    is needed, which is faster than fetching it from memory, and serves all places at once. The
    parts are of the filters or, for backward, which multiplies by U', of the channels.
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
            # U' is the transform of w'. Products with a transposed view of U would be slower.
            whole = np.ascontiguousarray(w.swapaxes(-1, -2)) if backward else w
            self._u = transform_filters(whole)
            self.places = [slice(i, i + 1) for i in range(TILE)]
        else:
            self.places = [slice(0, TILE)]

    def at(self, places: slice, part: slice) -> np.ndarray:
        """U at some rows of places, for a part: (P,6,C,F'), or for backward (P,6,F,C')."""
        if self.whole:
            return self._u[places]
        if self._backward:
            return transform_filters(self._w[:, :, part]).swapaxes(-1, -2)
        return transform_filters(self._w[..., part])


def _by_place(v: np.ndarray) -> np.ndarray:
    """A view of (P,M,T,6,C) as a matrix of tiles and channels for each place: (P,6,M*T,C)."""
    return v.reshape(len(v), -1, *v.shape[3:]).swapaxes(1, 2)


def _multiply(v: np.ndarray, u: np.ndarray, m: np.ndarray) -> None:
    """At each place, multiply the channels of the tiles by the filters."""
    # v is (P,M,T,6,C), u is (P,6,C,F), m is (P,M,T,6,F)
    v, m = _by_place(v), _by_place(m)
    tiles = rows = v.shape[2]
    while rows * u.shape[2] * u.shape[3] > SMALL and rows % 2 == 0:
        rows //= 2
    if rows >= FEWEST_ROWS:
        shape = (*v.shape[:2], tiles // rows, rows, -1)
        v, m, u = v.reshape(shape), m.reshape(shape), u[:, :, None]
    np.matmul(v, u, out=m)
