"""Convolution by Winograd's F(4x4, 3x3), as one compiled function for each direction.

A block of tile rows goes through all passes while it is in the cache. Where the transformed filters
are few and the blocks several, they are made once (`whole`); otherwise a part of them is made where
it is needed, which is faster than fetching it from memory. The bits depend on neither.
"""

from numba.types import boolean, int64

from dist_vgg.kernels.jit import jit
from dist_vgg.kernels.passes.lanes import (
    four,
    inline,
    load,
    marks,
    one,
    stream,
    streamed,
    two,
    whole_numbers,
)
from dist_vgg.kernels.passes.products import multiply
from dist_vgg.kernels.passes.sizes import CHAIN, DEPTH, LANES, PLACES
from dist_vgg.kernels.passes.tiles import (
    bias_gradient,
    filter_gradient,
    filter_tiles,
    fold,
    input_gradient,
    input_tiles,
    output_gradient_tiles,
    output_tiles,
)
from dist_vgg.kernels.passes.transpose import transpose


@jit(
    int64, four, four, one, boolean, boolean, four, marks, int64, boolean, int64, int64, one, one,
    two, two, two,
)  # fmt: skip
def forward(
    at, x, w, b, relu, pool, y, choice, at_once, whole, wc, wf, lines, sheet, v, u, m
):  # fmt: skip
    """y = the convolution of x with w, plus b; `at_once` is the tile rows of a block.

    It is rectified if `relu`; if `pool`, y is the rectified largest of each 2x2 window, and choice
    which of the four it was. `at` is the address of the product; wc and wf are the widths of
    panels, of channels and filters.
    """
    # x is (N,H,W,C), w is (3,3,C,F), b is (F,), y is (N,H,W,F), or with `pool` y and choice are
    # (N,H/2,W/2,F)
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
        output_tiles(m, first, last, height, wide, b, relu, pool, sheet, y, choice, wf)


@jit(
    int64, four, four, four, four, boolean, marks, boolean, boolean, boolean, whole_numbers, four,
    one, four, int64, int64, int64, one, one, one, one, two, two, two, two, two,
)  # fmt: skip
def backward_by_block(
    at, dy, x, w, y, relu, choice, pool, need_dx, fresh, bounds, dw, db, dx, at_once, wc, wf, lines,
    sheet, images, turned, stack, v, u, m, du,
):  # fmt: skip
    """Write all gradients of one part of the samples, a block of tile rows at a time.

    Where the rectified y is not positive, dy counts as 0. With `pool`, dy and y are those of the
    windows, and choice says which pixel each has. `fresh` says that u does not have the transposed
    filters' transform yet.
    """
    # dy and y are (N,H,W,F), or with `pool` they and choice are (N,H/2,W/2,F), x and dx are
    # (N,H,W,C), w and dw are (3,3,C,F), db is (F,)
    n, height, wide, channels = x.shape
    columns, total, filters = (wide + 3) // 4, n * ((height + 3) // 4), dw.shape[3]
    chain, panels = max(1, CHAIN // columns) * columns, (filters + wf - 1) // wf
    for first in range(0, total, at_once):
        last = min(first + at_once, total)
        tiles = (last - first) * columns
        input_tiles(x, first, last, lines, v, wc)
        output_gradient_tiles(dy, y, relu, choice, pool, first, last, height, wide, sheet, m,
                              images, wf)  # fmt: skip
        _filter_products(at, v, m, du, tiles, 0, tiles, chain, first > 0, 0, channels, 0, panels,
                         wc, wf)  # fmt: skip
        if need_dx:
            _input_products(at, v, m, u, w, tiles, fresh, True, wc, wf, sheet, turned)
            fresh = False
            input_gradient(v, first, last, lines, dx, wc)
    filter_gradient(du, channels, panels * wf, filters, sheet, dw, 0, channels * filters, filters,
                    wf)  # fmt: skip
    bias_gradient(images, bounds, stack, db)


@jit(
    int64, four, four, four, four, boolean, marks, boolean, boolean, whole_numbers, four, one, four,
    int64, int64, one, one, one, one, two, two, two, two, two, two,
)  # fmt: skip
def backward_at_once(
    at, dy, x, w, y, relu, choice, pool, need_dx, bounds, dw, db, dx, wc, wf, lines, sheet, images,
    turned, stack, parts, v, u, m, du,
):  # fmt: skip
    """Write all gradients, some filters at a time: where the filters are many and the tiles few.

    `bounds` are the images where the parts of the samples begin, and the end of the last; the
    gradients of filters and bias are added over the parts along the tree.
    """
    # dy and y are (N,H,W,F), or with `pool` they and choice are (N,H/2,W/2,F), x and dx are
    # (N,H,W,C), w and dw are (3,3,C,F), db is (F,)
    n, height, wide, channels = x.shape
    rows, columns, filters = (height + 3) // 4, (wide + 3) // 4, dw.shape[3]
    chain, tiles = max(1, CHAIN // columns) * columns, n * rows * columns
    input_tiles(x, 0, n * rows, lines, v, wc)
    output_gradient_tiles(
        dy, y, relu, choice, pool, 0, n * rows, height, wide, sheet, m, images, wf
    )
    for f in range(0, filters, wf):
        for c in range(0, channels, wc):
            depth, few = 0, min(wc, channels - c)
            for part in range(len(bounds) - 1):
                begin, end = bounds[part] * rows * columns, bounds[part + 1] * rows * columns
                _filter_products(at, v, m, du, tiles, begin, end, chain, False, c, few, f // wf, 1,
                                 wc, wf)  # fmt: skip
                filter_gradient(du, few, wf, wf, sheet, parts, depth * parts.shape[1], wc * wf, wf,
                                wf)  # fmt: skip
                depth = fold(parts, parts.shape[1], 0, 9 * wc * wf, depth + 1, part + 1)
            fold(parts, parts.shape[1], 0, 9 * wc * wf, depth, 0)
            for place in range(9):
                for k in range(few):
                    for g in range(0, min(wf, filters - f), LANES):
                        value = load(parts, (place * wc + k) * wf + g, LANES)
                        stream(dw, ((place * channels + c + k) * filters) + f + g, filters - f - g,
                               value)  # fmt: skip
    streamed()
    if need_dx:
        _input_products(at, v, m, u, w, tiles, True, False, wc, wf, sheet, turned)
        input_gradient(v, 0, n * rows, lines, dx, wc)
    bias_gradient(images, bounds, stack, db)


@inline
def _products(at, v, u, m, tiles, c, depth, panel, panels, wc, wf):
    """m (+)= v @ u at each place, over channels c ... c + depth - 1, for some panels of filters."""
    of_v, of_u, of_m = v.shape[1], u.shape[1], m.shape[1]
    for place in range(PLACES):
        for f in range(panels):
            for k in range(0, depth, DEPTH):
                multiply(
                    at, v, place * of_v + (c + k) // wc * tiles * wc, wc, 1, tiles * wc,
                    u, place * of_u + (f * depth + k) * wf, wf, wc * wf,
                    m, place * of_m + (panel + f) * tiles * wf, wf,
                    tiles, min(DEPTH, depth - k), wc, c + k > 0, wf,
                )  # fmt: skip


@inline
def _filter_products(at, v, m, du, tiles, begin, end, chain, add, c, depth, panel, panels, wc, wf):
    """du (+)= v' @ m at each place, over the tiles begin ... end - 1: some channels and filters."""
    of_v, of_m, of_du = v.shape[1], m.shape[1], du.shape[1]
    for place in range(PLACES):
        for f in range(panels):
            for k in range(0, depth, wc):
                rows = min(wc, depth - k)
                for t in range(begin, max(end, begin + 1), chain):
                    count = min(chain, end - t)
                    multiply(
                        at, v, place * of_v + ((c + k) // wc * tiles + t) * wc, 1, wc, 0,
                        m, place * of_m + ((panel + f) * tiles + t) * wf, wf, 0,
                        du, place * of_du + (f * depth + k) * wf, wf, rows, count, chain,
                        add or t > begin, wf,
                    )  # fmt: skip


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
                    transpose(w, (place * channels + c) * filters + f, filters,
                              few, depth, turned, place * depth * part_c, part_c)  # fmt: skip
                filter_tiles(turned, 0, depth * part_c, part_c, depth, part_c, few, sheet, u, wc)
            _products(at, m, u, v, tiles, f, depth, c // wc, part_c // wc, wf, wc)
