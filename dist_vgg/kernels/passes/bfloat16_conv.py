"""Direct 3x3 convolution of bfloat16 on tiles, and its gradients: no unfolding.

A few images lie one after the other as a stream of pixels, with one column and one row of zeros
between neighbours: the zeros at the right of a row are those at the left of the next one.

    0 0 0 0 0 0 0 0 0 | 0 x x x x x x x x | 0 x x x ...

So the three pixels under a row of the filter, 3*C numbers, follow one another, and those of the
next pixel begin C numbers later: the stream itself is the matrix that the filters are multiplied
with. Products at the zeros are computed as well, and thrown away.
"""

from numba.types import boolean, int64

from dist_vgg.kernels.jit import jit
from dist_vgg.kernels.passes.halves import (
    halves,
    halves_4,
    into_pairs,
    load_half,
    load_words,
    store_half,
    store_words,
)
from dist_vgg.kernels.passes.lanes import four, inline, load, one, rectified, splat, store
from dist_vgg.kernels.passes.sizes import BLOCK, LANES
from dist_vgg.kernels.passes.tile_product import multiply_tiles
from dist_vgg.kernels.passes.transpose import transpose, transpose_16


@jit(four, boolean, one, halves)
def filter_panels(w, adjoint, turned, panels):
    """Round filters into tiles; for the `adjoint`, turned by 180 degrees and transposed."""
    # w is (3,3,C,F), turned is (9*F*C,), panels is (panels,3,steps,1024)
    channels, filters = w.shape[2], w.shape[3]
    if not adjoint:
        _panels(w, channels, filters, panels)
    else:
        size = channels * filters
        for k in range(9):
            transpose(w, k * size, filters, channels, filters, turned, (8 - k) * size, channels)
        _panels(turned, filters, channels, panels)


@inline
def _panels(w, channels, filters, panels):
    rows = 3 * channels
    place = 0
    for f in range(0, filters, 32):
        for line in range(3):
            into_pairs(w, line * rows * filters + f, filters, rows, filters - f, panels, place)
            place += (rows + 31) // 32 * 1024


@jit(int64, halves_4, halves, one, boolean, halves, one, int64, halves_4)
def convolve(at, x, panels, b, relu, stream, sums, group, out):
    """out = the convolution of x with filters in panels, plus b, rectified if `relu`."""
    # x is (N,H,W,C), b is (F,), stream has room for `group` images, and zeros; sums is (BLOCK*32,),
    # out is (N,H,W,F)
    n, height, wide, channels = x.shape
    filters, steps = out.shape[3], (3 * channels + 31) // 32
    line = (wide + 1) * channels
    for first in range(0, n, group):
        images = min(group, n - first)
        _into_stream(x, first, images, stream)
        count = images * (height + 1) * (wide + 1)
        for p in range(0, count, BLOCK):
            rows = min(BLOCK, count - p)
            for f in range(0, filters, 32):
                multiply_tiles(at, stream, p * channels, channels, line, 3, steps,
                               panels, f * 96 * steps, sums, 0, 32, rows, False)  # fmt: skip
                _out_of_stream(sums, p, rows, first, f, b, relu, out)


@inline
def _into_stream(x, first, images, stream):
    """Copy images to their places; zeros are there already."""
    _, height, wide, channels = x.shape
    for image in range(images):
        for i in range(height):
            source = ((first + image) * height + i) * wide * channels
            place = ((image * (height + 1) + i + 1) * (wide + 1) + 1) * channels
            for k in range(0, wide * channels, LANES):
                left = wide * channels - k
                store_words(stream, place + k, left, load_words(x, source + k, left))


@inline
def _out_of_stream(sums, p, rows, first, f, b, relu, out):
    """Finish 32 channels of some pixels of the stream, and write those that are an image's."""
    _, height, wide, filters = out.shape
    left = filters - f
    low, high = load(b, f, left), load(b, f + LANES, left - LANES)
    j, i = p % (wide + 1), p // (wide + 1) % (height + 1)
    image = first + p // (wide + 1) // (height + 1)
    for row in range(rows):
        if j < wide and i < height:
            place = ((image * height + i) * wide + j) * filters + f
            one_, other = (
                load(sums, 32 * row, LANES) + low,
                load(sums, 32 * row + LANES, LANES) + high,
            )
            store_half(out, place, left, rectified(one_) if relu else one_)
            if left > LANES:
                store_half(out, place + LANES, left - LANES, rectified(other) if relu else other)
        j += 1
        if j > wide:
            j, i = 0, i + 1
            if i > height:
                i, image = 0, image + 1


@jit(int64, halves_4, halves_4, halves, halves, int64, halves, int64, halves, one, four, one)
def gradient(at, dy, x, stream, turned, length, unfolded, group, pairs, partial, dw, db):
    """Write the gradients of filters and bias.

    The order of a filter's sum: 32 pixels of the stream at a time, `group` after `group` of images,
    each from its first pixel on. That of the bias: the pixels of a row, its rows, the images.
    """
    # dy is (N,H,W,F), x is (N,H,W,C), stream has room for `group` images of dy, and zeros; turned
    # is (padded C,length), unfolded the same of 9*C where those are 32 at most, else it is empty;
    # pairs is (panels,steps,1024), partial is (panels,taps,rows,32), or (rows,32) where one group
    # is all; dw is (3,3,C,F), db is (F,)
    n, height, wide, channels = x.shape
    filters, pitch, few = dy.shape[3], wide + 1, len(unfolded) > 0
    taps, used = (1, 9 * channels) if few else (9, channels)
    rows = (used + 31) // 32 * 32
    for first in range(0, n, group):
        images = min(group, n - first)
        count = images * (height + 1) * pitch
        steps = (count + 31) // 32
        _into_stream(dy, first, images, stream)
        for f in range(0, filters, 32):
            into_pairs(stream, (pitch + 1) * filters + f, filters, count, filters - f,
                       pairs, f * 32 * steps)  # fmt: skip
        _turn(x, first, images, turned, length)
        if few:
            _unfold(turned, channels, pitch, length, unfolded)
        for f in range(0, filters, 32):
            for tap in range(taps):
                shift, number = tap // 3 * pitch + tap % 3, f // 32 * taps + tap
                place = 0 if n <= group else number * rows * 32
                multiply_tiles(at, unfolded if few else turned, shift, length, 0, 1, steps,
                               pairs, f * 32 * steps,
                               partial, place, 32, rows, first > 0)  # fmt: skip
                if first + images == n:
                    _finished(partial, place, used, tap * used * filters + f, filters, f, dw)
    _bias_gradient(dy, db)


@inline
def _finished(partial, place, rows, start, filters, f, dw):
    """Copy sums of 32 filters to their gradient, while they are in the cache."""
    for row in range(rows):
        for g in range(0, min(32, filters - f), LANES):
            value = load(partial, place + 32 * row + g, LANES)
            store(dw, start + row * filters + g, filters - f - g, value)


@inline
def _turn(x, first, images, turned, length):
    """Copy images, in their stream, into a row for each channel."""
    _, height, wide, channels = x.shape
    whole, across = channels // LANES * LANES, wide // LANES * LANES
    for image in range(images):
        for i in range(height):
            source = ((first + image) * height + i) * wide * channels
            start = (image * (height + 1) + i + 1) * (wide + 1) + 1
            for c in range(0, whole, LANES):
                for j in range(0, across, LANES):
                    transpose_16(x, source + j * channels + c, channels,
                                 turned, c * length + start + j, length)  # fmt: skip
            for c in range(channels):
                for j in range(across if c < whole else 0, wide):
                    turned[c * length + start + j] = x[first + image, i, j, c]


@inline
def _unfold(turned, channels, pitch, length, unfolded):
    """A row for each tap of each channel, where all of them are few."""
    for tap in range(9):
        shift = tap // 3 * pitch + tap % 3
        for c in range(channels):
            for p in range(length - shift):
                unfolded[(tap * channels + c) * length + p] = turned[c * length + shift + p]


@inline
def _bias_gradient(dy, db):
    n, height, wide, filters = dy.shape
    zero = splat(db, 0.0)
    for f in range(0, filters, 32):
        left = filters - f
        total, other = zero, zero
        for image in range(n):
            of_image, of_other = zero, zero
            for i in range(height):
                row, beside = zero, zero
                for j in range(wide):
                    place = ((image * height + i) * wide + j) * filters + f
                    row = row + load_half(dy, place, left)
                    beside = beside + load_half(dy, place + LANES, left - LANES)
                of_image, of_other = of_image + row, of_other + beside
            total, other = total + of_image, other + of_other
        store(db, f, left, total)
        store(db, f + LANES, left - LANES, other)


@jit(halves, halves)
def keep_positive(dy, y):
    """Set dy to 0 where y, which is rectified, is 0."""
    # dy and y are (n,)
    for i in range(len(dy)):
        dy[i] = dy[i] if y[i] != 0 else 0


@jit(one, halves)
def narrow(x, out):
    """out = x, rounded."""
    # x and out are (n,)
    for i in range(0, len(x), LANES):
        store_half(out, i, len(x) - i, load(x, i, len(x) - i))
