"""Winograd's output and its gradient through 2x2 max-pooling and a rectifier, tile by tile.

The 4x4 pixels of a tile are four windows, so the convolution's own output is never in memory.
"""

from dist_vgg.kernels.passes import transforms as t
from dist_vgg.kernels.passes.choices import choose, store_bytes, where_byte
from dist_vgg.kernels.passes.lanes import (
    inline,
    load,
    load_6,
    rectified,
    splat,
    store,
    where_positive,
)
from dist_vgg.kernels.passes.sizes import LANES


@inline
def pooled_output(k, sheet, bias, top, column, image, f, y, choice):
    """Write the largest of each window of a tile, rectified, and which of the four it was.

    Of equal ones the first is chosen, and a NaN counts as the largest.
    """
    # sheet is (6,4,16): the tile, transformed along the height; y and choice are (N,H/2,W/2,F)
    _, height, wide, filters = y.shape
    left = filters - f
    for j in range(min(2, wide - 2 * column)):
        a = t.at(k, *load_6(sheet, 2 * j * LANES, 4 * LANES))
        b = t.at(k, *load_6(sheet, (2 * j + 1) * LANES, 4 * LANES))
        for i in range(min(2, height - top // 2)):
            best, where = a[2 * i] + bias, splat(y, 0.0)
            best, where = _larger(b[2 * i] + bias, splat(y, 1.0), best, where)
            best, where = _larger(a[2 * i + 1] + bias, splat(y, 2.0), best, where)
            best, where = _larger(b[2 * i + 1] + bias, splat(y, 3.0), best, where)
            place = ((image * height + top // 2 + i) * wide + 2 * column + j) * filters + f
            store(y, place, left, rectified(best))
            store_bytes(choice, place, left, where)


@inline
def _larger(value, number, best, where):
    """The larger of two, and its number: the later one's if that is larger or NaN."""
    return choose(value, best, value, best), choose(value, best, number, where)


@inline
def pooled_gradient(dy, y, choice, top, pixel, image, f):
    """The gradient of a column of four pixels of a tile, from that of its windows.

    It is that of the window where the pixel was the largest and positive, else 0.
    """
    # dy, y and choice are (N,H/2,W/2,F)
    _, height, wide, filters = dy.shape
    inside = filters - f if pixel < 2 * wide else 0
    place = ((image * height + top // 2) * wide + pixel // 2) * filters + f
    below, line, right = inside if top // 2 + 1 < height else 0, wide * filters, pixel % 2
    a = where_positive(load(dy, place, inside), load(y, place, inside))
    b = where_positive(load(dy, place + line, below), load(y, place + line, below))
    return (
        where_byte(choice, place, inside, right, a),
        where_byte(choice, place, inside, right + 2, a),
        where_byte(choice, place + line, below, right, b),
        where_byte(choice, place + line, below, right + 2, b),
    )
