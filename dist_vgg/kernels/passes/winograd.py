"""Convolution by Winograd's F(4x4, 3x3), as one compiled function for each direction.

A block of tile rows goes through all passes while it is in the cache. Where the transformed filters
are few they are made once (`whole`); otherwise a part of them is made where it is needed, which is
faster than fetching it from memory. The bits depend on neither.
"""

import numba
from numba.types import boolean, int64

from dist_vgg.kernels.jit import jit
from dist_vgg.kernels.passes.lanes import NUMBERS
from dist_vgg.kernels.passes.products import DEPTH, multiply
from dist_vgg.kernels.passes.tiles import (
    filter_gradient,
    filter_tiles,
    input_gradient,
    input_tiles,
    output_gradient_tiles,
    output_tiles,
    transpose,
)

one, two, four = NUMBERS
inline = numba.njit(nogil=True, error_model="numpy")
CHAIN = 64  # about so many tiles make one chain of additions in a filter's gradient


@jit((int64, four, four, one, boolean, four, int64, boolean, int64, int64, one, one, two, two, two))
def forward(at, x, w, b, relu, y, at_once, whole, wc, wf, lines, sheet, v, u, m):
    """y = the convolution of x with w, plus b; `at_once` is the tile rows of a block.

    `at` is the address of the product; wc and wf are the widths of panels, of channels and filters.
    """
    # x is (N,H,W,C), w is (3,3,C,F), b is (F,), y is (N,H,W,F)
    n, height, wide, channels = x.shape
    filters = y.shape[3]
    columns, total = (wide + 3) // 4, n * ((height + 3) // 4)
    panels_f = (filters + wf - 1) // wf
    part_f, part_c = (panels_f * wf, channels) if whole else (wf, DEPTH)
    for first in range(0, total, at_once):
        last = min(first + at_once, total)
        tiles = (last - first) * columns
        input_tiles(x, first, last, lines, v, wc)
        for f in range(0, panels_f * wf, part_f):
            for c in range(0, channels, part_c):
                depth = min(part_c, channels - c)
                if first == 0 or not whole:
                    filter_tiles(w, c * filters + f, channels * filters, filters, depth, part_f,
                                 filters - f, sheet, u, wf)  # fmt: skip
                _products(at, v, u, m, tiles, c, depth, f // wf, part_f // wf, wc, wf)
        output_tiles(m, first, last, b, relu, sheet, y, wf)


@jit(
    (int64, four, four, four, four, boolean, boolean, four, one, four, int64, boolean, int64, int64,
     one, one, one, one, two, two, two, two)
)  # fmt: skip
def backward(
    at, dy, x, w, y, relu, need_dx, dw, db, dx, at_once, whole, wc, wf, lines, sheet, sums, turned,
    v, u, m, du,
):  # fmt: skip
    """Write the gradients of filters, bias and, if `need_dx`, of the input.

    Where the rectified y is not positive, dy counts as 0. Without `whole` there is one block.
    """
    # dy and y are (N,H,W,F), x and dx are (N,H,W,C), w and dw are (3,3,C,F), db is (F,)
    n, height, wide, _ = x.shape
    columns, total = (wide + 3) // 4, n * ((height + 3) // 4)
    chain = max(1, CHAIN // columns) * columns
    for first in range(0, total, at_once):
        last = min(first + at_once, total)
        tiles = (last - first) * columns
        input_tiles(x, first, last, lines, v, wc)
        output_gradient_tiles(dy, y, relu, first, last, sheet, m, sums, db, wf)
        _filter_gradients(at, v, m, du, dw, tiles, chain, first > 0, last == total, whole, wc, wf,
                          sheet)  # fmt: skip
        if need_dx:
            _input_products(at, v, m, u, w, tiles, first == 0, whole, wc, wf, sheet, turned)
            input_gradient(v, first, last, lines, dx, wc)


@inline
def _products(at, v, u, m, tiles, c, depth, panel, panels, wc, wf):
    """m (+)= v @ u at each place, over channels c ... c + depth - 1, for some panels of filters."""
    for place in range(36):
        for f in range(panels):
            for k in range(0, depth, DEPTH):
                multiply(
                    at, v[place], (c + k) // wc * tiles * wc, wc, 1, tiles * wc,
                    u[place], (f * depth + k) * wf, wf, wc * wf,
                    m[place], (panel + f) * tiles * wf, wf,
                    tiles, min(DEPTH, depth - k), wc, c + k > 0, wf,
                )  # fmt: skip


@inline
def _filter_gradients(at, v, m, du, dw, tiles, chain, add, at_last, whole, wc, wf, sheet):
    """du (+)= v' @ m at each place; `at_last`, dw = G' du G."""
    channels, filters = dw.shape[2:]
    panels_f = (filters + wf - 1) // wf
    part_c, part_f = (channels, panels_f) if whole else (wc, 1)
    for f in range(0, panels_f, part_f):
        for c in range(0, channels, part_c):
            depth = min(part_c, channels - c)
            for place in range(36):
                for panel in range(part_f):
                    for k in range(0, depth, wc):
                        for t in range(0, tiles, chain):
                            multiply(
                                at, v[place], ((c + k) // wc * tiles + t) * wc, 1, wc, 0,
                                m[place], ((f + panel) * tiles + t) * wf, wf, 0,
                                du[place], (panel * depth + k) * wf, wf,
                                min(wc, depth - k), min(chain, tiles - t), chain, add or t > 0, wf,
                            )  # fmt: skip
            if at_last:
                filter_gradient(du, depth, part_f * wf, filters - f * wf, sheet, dw,
                                c * filters + f * wf, channels * filters, filters, wf)  # fmt: skip


@inline
def _input_products(at, v, m, u, w, tiles, first, whole, wc, wf, sheet, turned):
    """v = m @ u' at each place; the transposed filters are made where they are needed."""
    channels, filters = w.shape[2:]
    panels_c = (channels + wc - 1) // wc
    part_c, part_f = (panels_c * wc, filters) if whole else (wc, DEPTH)
    for c in range(0, panels_c * wc, part_c):
        for f in range(0, filters, part_f):
            depth = min(part_f, filters - f)
            if first or not whole:
                few = min(part_c, channels - c)
                for place in range(9):
                    transpose(w.reshape(-1), (place * channels + c) * filters + f, filters,
                              few, depth, turned, place * depth * part_c, part_c)  # fmt: skip
                filter_tiles(turned, 0, depth * part_c, part_c, depth, part_c, few, sheet, u, wc)
            _products(at, m, u, v, tiles, f, depth, c // wc, part_c // wc, wf, wc)
