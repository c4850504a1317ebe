"""The transforms of Winograd's convolution F(4x4, 3x3): B', G and A', and how they are applied.

Each is a `matmul` on views. It works along one axis; a tile's transform is therefore made along the
height of the images, for whole lines of pixels at once, and then along the width, so that nothing
is unfolded or padded.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

TILE, STEP = 6, 4  # pixels of a tile, and of its part of the output

# Interpolation at the points 0, p, -p, q, -q and infinity. Lavin and Gray take p = 1 and q = 2;
# with the points below, which float32 holds exactly, rounding errors are a third as large.
# Barabasz, Anderson, Soodhalter and Gregg, "Error analysis and improving the accuracy of Winograd
# convolution for deep neural networks", ACM TOMS 46 (2020), explain why points matter.
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


def cut(x: np.ndarray, tiles: np.ndarray) -> None:
    """Cut the last axis but one into overlapping tiles, and transform each by B'."""
    # x is (...,L,K), tiles is (...,L/4,6,K)
    bt, count = matrices(x.dtype).bt, tiles.shape[-3]
    if count == 1:
        np.matmul(bt[:, 1:5], x, out=tiles[..., 0, :, :])
        return
    # The first and the last tile reach into the padding, whose zeros are not in memory.
    np.matmul(bt[:, 1:], x[..., :5, :], out=tiles[..., 0, :, :])
    if count > 2:
        inner = _windows(x[..., 3:, :], count - 2, TILE, STEP)
        np.matmul(bt, inner, out=tiles[..., 1:-1, :, :])
    np.matmul(bt[:, :5], x[..., -5:, :], out=tiles[..., -1, :, :])


def join(tiles: np.ndarray, x: np.ndarray) -> None:
    """The adjoint of `cut`: transform each tile by B, and add them where they overlap."""
    # tiles is (...,L/4,6,K), x is (...,L,K)
    b, pair, count = matrices(x.dtype).bt.T, matrices(x.dtype).pair, tiles.shape[-3]
    if count == 1:
        np.matmul(b[1:5], tiles[..., 0, :, :], out=x)
        return
    # Two neighbouring tiles share four pixels; the first three and the last one are of one tile.
    np.matmul(b[1:4], tiles[..., 0, :, :], out=x[..., :3, :])
    rows = tiles.reshape(*tiles.shape[:-3], count * TILE, -1)
    inner = x[..., 3:-1, :].reshape(*x.shape[:-2], count - 1, STEP, -1)
    np.matmul(pair, _windows(rows, count - 1, 2 * TILE, TILE), out=inner)
    np.matmul(b[4:5], tiles[..., -1, :, :], out=x[..., -1:, :])


def _windows(x: np.ndarray, count: int, size: int, step: int) -> np.ndarray:
    """A view of `count` windows along the last axis but one: (...,L,K) as (...,count,size,K)."""
    shape = (*x.shape[:-2], count, size, x.shape[-1])
    strides = (*x.strides[:-2], step * x.strides[-2], *x.strides[-2:])
    return as_strided(x, shape, strides, writeable=False)


class _Matrices(NamedTuple):
    """The transforms in one precision."""

    bt: np.ndarray
    at: np.ndarray
    gg: np.ndarray  # (36,9): G along height and width at once
    pair: np.ndarray  # (4,12): B for the pixels that two neighbouring tiles share


@cache
def matrices(dtype: np.dtype) -> _Matrices:
    """The transforms in the precision of the data; made once for each."""
    pair = np.hstack([np.vstack([BT.T[TILE - 2 :], np.zeros((2, TILE))]), BT.T[:STEP]])
    return _Matrices(*(m.astype(dtype) for m in (BT, AT, np.kron(G, G), pair)))


def transform_filters(w: np.ndarray) -> np.ndarray:
    """U = G w G' of each channel and filter."""
    # w is (3,3,C,F), u is (6,6,C,F)
    u = np.empty((TILE, TILE, *w.shape[2:]), w.dtype)
    np.matmul(matrices(w.dtype).gg, _by_channel(w), out=_by_channel(u))
    return u


def transform_filters_back(du: np.ndarray, dw: np.ndarray, first: bool) -> None:
    """The adjoint of `transform_filters`."""
    # du is (6,6,C,F), dw is (3,3,C,F)
    add_product(matrices(dw.dtype).gg.T, _by_channel(du), _by_channel(dw), first)


def add_product(a: np.ndarray, b: np.ndarray, total: np.ndarray, first: bool) -> None:
    """total = a @ b for the first block, and total += a @ b for the others."""
    if first:
        np.matmul(a, b, out=total)
    else:
        total += a @ b


def _by_channel(w: np.ndarray) -> np.ndarray:
    """A view of filters or their transform, as a matrix (places,F) for each channel."""
    return w.reshape(-1, *w.shape[2:]).swapaxes(0, 1)
