"""Winograd's passes over images and filters: to the 36 places of their tiles, and back.

A tile covers 4x4 pixels of the output and 6x6 of the input. Tiles are counted row by row of all
images; a pass works on the tile rows first ... last - 1. The tiles' numbers lie in panels of
channels, all tiles of a panel one after the other, and so for each of the 36 places: v[place] is
(panels, tiles, width). Places are `spread` (compiled.py), so that they fall on different lines of
the cache.

What lies outside of an image counts as zero, and what a tile would write there is left out.
"""

from dist_vgg.kernels.passes import transforms as t
from dist_vgg.kernels.passes.lanes import (
    inline,
    load,
    load_6,
    rectified,
    splat,
    store,
    store_6,
    where_positive,
)
from dist_vgg.kernels.passes.pooled import pooled_gradient, pooled_output
from dist_vgg.kernels.passes.sizes import LANES


@inline
def input_tiles(x, first, last, lines, v, width):
    """v = B' x B: along the height for a column of pixels, then along the width.

    Neighbouring tiles share two columns, so `lines` keeps the last eight, in turn.
    """
    # x is (N,H,W,C), lines is (padded C/16,6,8,16), v is (36, panels*tiles*width)
    _, height, wide, channels = x.shape
    rows, columns = (height + 3) // 4, (wide + 3) // 4
    k, plane, line = t.b_constants(x), v.shape[1], wide * channels
    for row in range(first, last):
        top = 4 * (row % rows) - 1
        for column in range(columns):
            for c in range(0, channels, LANES):
                start = ((row // rows * height + top) * wide) * channels + c
                for i in range(2 if column > 0 else 0, 6):
                    pixel = 4 * column - 1 + i
                    left = channels - c if 0 <= pixel < wide else 0
                    place = start + pixel * channels
                    six = t.bt(
                        k, load(x, place, left if top >= 0 else 0),
                        load(x, place + line, left),
                        load(x, place + 2 * line, left if top + 2 < height else 0),
                        load(x, place + 3 * line, left if top + 3 < height else 0),
                        load(x, place + 4 * line, left if top + 4 < height else 0),
                        load(x, place + 5 * line, left if top + 5 < height else 0),
                    )  # fmt: skip
                    store_6(lines, 48 * c + (4 * column + i) % 8 * LANES, 8 * LANES, six)
                tile = (c // width * (last - first) + row - first) * columns + column
                place, even, odd = tile * width + c % width, 4 * column % 8, (4 * column + 4) % 8
                for r in range(6):
                    here = 48 * c + 8 * r * LANES
                    six = t.bt(
                        k, load(lines, here + even * LANES, LANES),
                        load(lines, here + (even + 1) * LANES, LANES),
                        load(lines, here + (even + 2) * LANES, LANES),
                        load(lines, here + (even + 3) * LANES, LANES),
                        load(lines, here + odd * LANES, LANES),
                        load(lines, here + (odd + 1) * LANES, LANES),
                    )  # fmt: skip
                    store_6(v, place + 6 * r * plane, plane, six)


@inline
def output_tiles(m, first, last, height, wide, b, relu, pool, sheet, y, choice, width):
    """y = A' m A + b, rectified if `relu`; if `pool`, the rectified largest of each window."""
    # m is (36, panels*tiles*width), b is (F,), sheet is (6,4,16), y is (N,H,W,F), or with `pool` y
    # and choice are (N,H/2,W/2,F)
    filters = y.shape[3]
    rows, columns = (height + 3) // 4, (wide + 3) // 4
    k, plane, line = t.a_constants(y), m.shape[1], wide * filters
    for row in range(first, last):
        top = 4 * (row % rows)
        for column in range(columns):
            start = ((row // rows * height + top) * wide + 4 * column) * filters
            for f in range(0, filters, LANES):
                left = filters - f
                bias = load(b, f, left)
                tile = (f // width * (last - first) + row - first) * columns + column
                place = tile * width + f % width
                for r in range(6):
                    four = t.at(k, *load_6(m, place + 6 * r * plane, plane))
                    for i in range(4):
                        store(sheet, (4 * r + i) * LANES, LANES, four[i])
                if pool:
                    pooled_output(k, sheet, bias, top, column, row // rows, f, y, choice)
                    continue
                for i in range(min(4, wide - 4 * column)):
                    four = t.at(k, *load_6(sheet, i * LANES, 4 * LANES))
                    for r in range(4):
                        if top + r < height:
                            value = four[r] + bias
                            store(y, start + r * line + i * filters + f, left,
                                  rectified(value) if relu else value)  # fmt: skip


@inline
def output_gradient_tiles(
    dy, y, relu, choice, pool, first, last, height, wide, sheet, m, images, width
):
    """m = A dy A', with dy 0 where the rectified y is not positive; `images` are its sums.

    With `pool`, dy is passed to the pixels that were the largest of their windows. The order of a
    sum: the pixels of a tile, the tiles of a row, the rows of the image.
    """
    # dy and y are (N,H,W,F), or with `pool` they and choice are (N,H/2,W/2,F), sheet is (6,4,16),
    # m is (36, panels*tiles*width), images is (N,F)
    filters = dy.shape[3]
    rows, columns = (height + 3) // 4, (wide + 3) // 4
    k, zero = t.a_constants(dy), splat(dy, 0.0)
    plane, line = m.shape[1], wide * filters
    for row in range(first, last):
        top = 4 * (row % rows)
        for f in range(0, (filters + width - 1) // width * width, LANES):
            left, of_row = filters - f, zero
            tile = (f // width * (last - first) + row - first) * columns
            for column in range(columns):
                start = ((row // rows * height + top) * wide + 4 * column) * filters + f
                of_tile = zero
                for i in range(4):
                    inside = left if 4 * column + i < wide else 0
                    place = start + i * filters
                    if pool:
                        d0, d1, d2, d3 = pooled_gradient(
                            dy, y, choice, top, 4 * column + i, row // rows, f
                        )
                    else:
                        d0, d1, d2, d3 = _column(dy, y, relu, place, line, inside, height - top)
                    of_tile = of_tile + ((d0 + d1) + (d2 + d3))
                    six = t.a(k, d0, d1, d2, d3)
                    store_6(sheet, i * LANES, 4 * LANES, six)
                of_row = of_row + of_tile
                place = (tile + column) * width + f % width
                for r in range(6):
                    four = 4 * r * LANES
                    six = t.a(k, load(sheet, four, LANES), load(sheet, four + LANES, LANES),
                              load(sheet, four + 2 * LANES, LANES),
                              load(sheet, four + 3 * LANES, LANES))  # fmt: skip
                    store_6(m, place + 6 * r * plane, plane, six)
            place = row // rows * filters + f
            store(images, place, left, of_row if top == 0 else load(images, place, left) + of_row)


@inline
def _column(dy, y, relu, place, line, count, rows):
    """Four pixels of dy, one below the other; 0 from `rows` on, and where y is not positive."""
    return (
        _masked(dy, y, relu, place, count),
        _masked(dy, y, relu, place + line, count if rows > 1 else 0),
        _masked(dy, y, relu, place + 2 * line, count if rows > 2 else 0),
        _masked(dy, y, relu, place + 3 * line, count if rows > 3 else 0),
    )


@inline
def _masked(dy, y, relu, place, count):
    """Numbers of dy, 0 where those of y are not positive."""
    d = load(dy, place, count)
    return where_positive(d, load(y, place, count)) if relu else d


@inline
def input_gradient(v, first, last, lines, dx, width):
    """dx = B v B', the adjoint of `input_tiles`: added where tiles overlap, in their order."""
    # v is (36, panels*tiles*width), lines is (6,4*columns+2,16), dx is (N,H,W,C)
    _, height, wide, channels = dx.shape
    rows, columns = (height + 3) // 4, (wide + 3) // 4
    k = t.b_constants(dx)
    step, plane, line = (4 * columns + 2) * LANES, v.shape[1], wide * channels
    for row in range(first, last):
        top = 4 * (row % rows) - 1
        for c in range(0, channels, LANES):
            left = channels - c
            tile = (c // width * (last - first) + row - first) * columns
            for column in range(columns):
                place = (tile + column) * width + c % width
                for r in range(6):
                    six = t.b(k, *load_6(v, place + 6 * r * plane, plane))
                    start = r * step + 4 * column * LANES
                    for i in range(6):
                        value = six[i]
                        if i < 2 and column > 0:
                            value = load(lines, start + i * LANES, LANES) + value
                        store(lines, start + i * LANES, LANES, value)
            start = ((row // rows * height + top) * wide) * channels + c
            for column in range(wide):
                six = t.b(k, *load_6(lines, (column + 1) * LANES, step))
                for r in range(6):
                    place, value = start + r * line + column * channels, six[r]
                    if 0 <= top + r < height:
                        if r < 2 and top > 0:
                            value = load(dx, place, left) + value
                        store(dx, place, left, value)


@inline
def filter_tiles(w, start, place_step, row_step, rows, columns, limit, sheet, u, width):
    """u = G w G' of `rows` by `columns` filters, in panels; columns from `limit` on are 0."""
    # sheet is (6,3,16), u is (36, panels*rows*width)
    k, plane = t.g_constants(w), u.shape[1]
    for panel in range(0, columns, width):
        for row in range(rows):
            for f in range(panel, panel + width, LANES):
                left, place = limit - f, start + row * row_step + f
                for j in range(3):
                    w0 = load(w, place + j * place_step, left)
                    w1 = load(w, place + (3 + j) * place_step, left)
                    w2 = load(w, place + (6 + j) * place_step, left)
                    store_6(sheet, j * LANES, 3 * LANES, t.g(k, w0, w1, w2))
                place = panel * rows + row * width + f - panel
                for r in range(6):
                    three = 3 * r * LANES
                    six = t.g(k, load(sheet, three, LANES), load(sheet, three + LANES, LANES),
                              load(sheet, three + 2 * LANES, LANES))  # fmt: skip
                    store_6(u, place + 6 * r * plane, plane, six)


@inline
def filter_gradient(du, rows, columns, limit, sheet, dw, start, place_step, row_step, width):
    """dw = G' du G, the adjoint of `filter_tiles`."""
    # du is (36, panels*rows*width), sheet is (6,3,16)
    k, plane = t.g_constants(dw), du.shape[1]
    for f in range(0, min(columns, limit), LANES):
        left = limit - f
        for row in range(rows):
            place = (f // width * rows + row) * width + f % width
            for r in range(6):
                three = t.gt(k, *load_6(du, place + 6 * r * plane, plane))
                for j in range(3):
                    store(sheet, (3 * r + j) * LANES, LANES, three[j])
            place = start + row * row_step + f
            for j in range(3):
                three = t.gt(k, *load_6(sheet, j * LANES, 3 * LANES))
                for i in range(3):
                    store(dw, place + (3 * i + j) * place_step, left, three[i])


@inline
def bias_gradient(images, bounds, stack, db):
    """db = the sum of the images' sums: in order within a part, and of the parts along the tree."""
    # images is (N,F), bounds are the images where the parts begin, stack is (levels,padded F)
    filters, level = db.shape[0], stack.shape[1]
    for f in range(0, filters, LANES):
        left, depth = filters - f, 0
        for part in range(len(bounds) - 1):
            total = splat(images, 0.0)
            for image in range(bounds[part], bounds[part + 1]):
                total = total + load(images, image * filters + f, left)
            store(stack, depth * level + f, LANES, total)
            depth = fold(stack, level, f, LANES, depth + 1, part + 1)
        fold(stack, level, f, LANES, depth, 0)
        store(db, f, left, load(stack, f, LANES))


@inline
def fold(stack, level, start, count, depth, done):
    """Add siblings of the tree: the last arrays of a stack, until their parents have none.

    The arrays are `count` numbers from `start` on, and `level` numbers apart. `done` parts have
    been put there; 0 says that no more come, and adds all. Returns how many arrays are left.
    """
    while depth > 1 and done % 2 == 0:
        left, right = (depth - 2) * level + start, (depth - 1) * level + start
        for i in range(0, count, LANES):
            total = load(stack, left + i, count - i) + load(stack, right + i, count - i)
            store(stack, left + i, count - i, total)
        depth, done = depth - 1, done // 2
    return depth
