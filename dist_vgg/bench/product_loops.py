"""The products of a training step and nothing else: the loops of kernels/passes around `multiply`.

`at` is the address of the product. product_share.py calls them.
"""

from numba.types import boolean, int64

from dist_vgg.kernels.jit import jit
from dist_vgg.kernels.passes.lanes import one, two
from dist_vgg.kernels.passes.products import multiply
from dist_vgg.kernels.passes.sizes import BACKWARD, DEPTH, FORWARD, ROWS
from dist_vgg.kernels.passes.winograd import _filter_products, _products

AT_ONCE = 1024  # rows of a large matrix, of which DEPTH columns stay in the second cache


@jit(int64, two, two, two, int64, int64, int64, boolean, int64, int64)
def places(at, v, u, m, tiles, channels, filters, whole, wc, wf):
    """m = v @ u at each place: a forward pass, or with channels for filters the input's gradient.

    `whole` says that u has all filters' transform; otherwise a part of it has its turn after the
    other.
    """
    padded = (filters + wf - 1) // wf * wf
    part_f, part_c = (padded, channels) if whole else (wf, DEPTH)
    for f in range(0, padded, part_f):
        for c in range(0, channels, part_c):
            depth = min(part_c, channels - c)
            _products(at, v, u, m, tiles, c, depth, f // wf, part_f // wf, wc, wf)


@jit(int64, two, two, two, int64, int64, int64, int64, boolean, int64, int64)
def filters_gradient(at, v, m, du, tiles, channels, filters, chain, whole, wc, wf):
    """du = v' @ m at each place; without `whole`, for some channels and filters at a time."""
    padded = (filters + wf - 1) // wf * wf
    part_f, part_c = (padded, channels) if whole else (wf, wc)
    for f in range(0, padded, part_f):
        for c in range(0, channels, part_c):
            depth = min(part_c, channels - c)
            _filter_products(at, v, m, du, tiles, 0, tiles, chain, False, c, depth, f // wf,
                             part_f // wf, wc, wf)  # fmt: skip


@jit(int64, one, one, one, int64, int64, int64, int64)
def matrix(at, x, w, sums, n, inputs, outputs, width):
    """sums = x @ w, as `linear.forward` does it."""
    for k in range(0, inputs, FORWARD):
        count = min(FORWARD, inputs - k)
        for f in range(0, outputs, width):
            multiply(at, x, k, inputs, 1, 0, w, k * outputs + f, outputs, 0,
                     sums, n * f, width, n, count, count, k > 0, width)  # fmt: skip


@jit(int64, one, one, one, int64, int64, int64, int64)
def matrix_input_gradient(at, w, turned, sums, n, inputs, outputs, width):
    """w @ dy', as `linear.backward_input` does it; `turned` has dy' in panels."""
    for c in range(0, inputs, ROWS):
        for i in range(0, n, width):
            for f in range(0, outputs, BACKWARD):
                rows, count = min(ROWS, inputs - c), min(BACKWARD, outputs - f)
                multiply(at, w, c * outputs + f, outputs, 1, 0,
                         turned, i * outputs + f * width, width, 0,
                         sums, 0, width, rows, count, count, f > 0, width)  # fmt: skip


@jit(int64, one, one, one, int64, int64, int64, int64)
def matrix_gradient(at, x, dy, sums, n, inputs, outputs, width):
    """x' @ dy, as `linear.backward_weights` does it."""
    for c in range(0, inputs, ROWS):
        for f in range(0, outputs, width):
            multiply(at, x, c, 1, inputs, 0, dy, f, outputs, 0,
                     sums, 0, width, min(ROWS, inputs - c), n, n, False, width)  # fmt: skip


@jit(int64, one, one, one, int64, int64)
def square(at, a, b, c, side, width):
    """c = a @ b, all of them square: a lies in panels of DEPTH columns, b and c of `width`."""
    for k in range(0, side, DEPTH):
        count = min(DEPTH, side - k)
        for i in range(0, side, AT_ONCE):
            rows = min(AT_ONCE, side - i)
            for f in range(0, side, width):
                multiply(at, a, k * side + i * DEPTH, DEPTH, 1, 0,
                         b, f * side + k * width, width, 0,
                         c, f * side + i * width, width,
                         rows, count, count, k > 0, width)  # fmt: skip
