"""Direct convolution, for few channels: each row of the output is a product.

In the padded image the 3*C numbers under a row of the filter lie one after the other, and so a row
of pixels is a matrix whose rows overlap: nothing is unfolded.
"""

from numba.types import boolean, int64

from dist_vgg.kernels.jit import jit
from dist_vgg.kernels.passes.lanes import (
    four,
    inline,
    load,
    one,
    rectified,
    splat,
    store,
    where_positive,
)
from dist_vgg.kernels.passes.products import multiply
from dist_vgg.kernels.passes.sizes import LANES


@jit(int64, four, four, boolean, four, one, boolean, one, one, one, four, int64)
def forward(at, x, y, relu_x, w, b, relu, padded, panels, row, out, width):
    """out = the convolution of x with w, plus b, rectified if `relu`.

    With `relu_x`, x counts as 0 where y is not positive; that is for the input's gradient.
    """
    # x and y are (N,H,W,C), w is (3,3,C,F), b is (F,), padded is ((H+2)*(W+2)*C,), panels is
    # (9*C*padded F,), row is (W*width,), out is (N,H,W,F)
    n, height, wide, channels = x.shape
    filters = out.shape[3]
    line = (wide + 2) * channels
    into_panels(w, 0, filters, 9 * channels, filters, panels, width)
    padded[:] = 0
    for image in range(n):
        _pad(x, y, relu_x, image, padded)
        for i in range(height):
            for f in range(0, filters, width):
                multiply(
                    at, padded, i * line, channels, 1, line,
                    panels, 9 * channels * f, width, 3 * channels * width,
                    row, 0, width, wide, 9 * channels, 3 * channels, False, width,
                )  # fmt: skip
                place = (image * height + i) * wide * filters + f
                for g in range(0, min(width, filters - f), LANES):
                    left = filters - f - g
                    bias = load(b, f + g, left)
                    for j in range(wide):
                        value = load(row, j * width + g, LANES) + bias
                        store(out, place + j * filters + g, left,
                              rectified(value) if relu else value)  # fmt: skip


@jit(int64, four, four, four, boolean, one, one, one, four, one, one, int64)
def backward(at, dy, x, y, relu, padded, row, sums, dw, db, partial, width):
    """Write the gradients of filters and bias; dy counts as 0 where y is not positive.

    The order of a sum: the pixels of a row, one chain; then the rows of all images.
    """
    # dy and y are (N,H,W,F), x is (N,H,W,C), padded is ((H+2)*(W+2)*C,), row is (W*padded F,), sums
    # is (padded F,), partial is (9*C*padded F,), dw is (3,3,C,F), db is (F,)
    n, height, wide, channels = x.shape
    filters = dy.shape[3]
    line, zero = (wide + 2) * channels, splat(dy, 0.0)
    padded[:] = 0
    for image in range(n):
        _pad(x, x, False, image, padded)
        for i in range(height):
            place, later = (image * height + i) * wide * filters, image + i > 0
            for f in range(0, sums.shape[0], LANES):
                left, of_row = filters - f, zero
                start = f // width * wide * width + f % width
                for j in range(wide):
                    d = load(dy, place + j * filters + f, left)
                    if relu:
                        d = where_positive(d, load(y, place + j * filters + f, left))
                    store(row, start + j * width, LANES, d)
                    of_row = of_row + d
                of_image = load(sums, f, LANES) + of_row if i > 0 else of_row
                store(sums, f, LANES, of_image)
                if i == height - 1:
                    store(db, f, left, load(db, f, left) + of_image if image > 0 else of_image)
            for f in range(0, sums.shape[0], width):
                for k in range(3):
                    multiply(
                        at, padded, (i + k) * line, 1, channels, 0,
                        row, f * wide, width, 0,
                        partial, (f * 9 + k * 3 * width) * channels, width,
                        3 * channels, wide, wide, later, width,
                    )  # fmt: skip
    out_of_panels(partial, 9 * channels, filters, dw, width)


@inline
def _pad(x, y, relu, image, padded):
    """Copy an image into a frame of zeros; with `relu`, zeros where y is not positive."""
    _, height, wide, channels = x.shape
    for i in range(height):
        source, target = (
            (image * height + i) * wide * channels,
            ((i + 1) * (wide + 2) + 1) * channels,
        )
        for k in range(0, wide * channels, LANES):
            left = wide * channels - k
            value = load(x, source + k, left)
            if relu:
                value = where_positive(value, load(y, source + k, left))
            store(padded, target + k, left, value)


@inline
def into_panels(w, start, step, rows, columns, panels, width):
    """Copy a matrix, whose rows are `step` apart, into panels; missing columns are 0."""
    # panels is (panels*rows*width,)
    for f in range(0, (columns + width - 1) // width * width, LANES):
        for k in range(rows):
            value = load(w, start + k * step + f, columns - f)
            store(panels, (f // width * rows + k) * width + f % width, LANES, value)


@inline
def out_of_panels(panels, rows, columns, w, width):
    """Copy a matrix out of its panels."""
    for f in range(0, columns, LANES):
        for k in range(rows):
            value = load(panels, (f // width * rows + k) * width + f % width, LANES)
            store(w, k * columns + f, columns - f, value)
