"""Fully connected layers: products with a large matrix, read once in the order of memory."""

from numba.types import int64

from dist_vgg.kernels.jit import jit
from dist_vgg.kernels.passes.direct import into_panels
from dist_vgg.kernels.passes.lanes import load, one, store, stream, streamed, two, whole_numbers
from dist_vgg.kernels.passes.products import multiply
from dist_vgg.kernels.passes.sizes import BACKWARD, FORWARD, LANES, ROWS
from dist_vgg.kernels.passes.tiles import bias_gradient, fold


@jit(int64, two, two, one, two, one, one, int64)
def forward(at, x, w, b, y, edge, sums, width):
    """y = x @ w + b."""
    # x is (N,C), w is (C,F), b is (F,), y is (N,F), edge is (FORWARD*width,), sums is (N*padded F,)
    n, inputs = x.shape
    outputs = w.shape[1]
    whole = outputs // width * width
    for k in range(0, inputs, FORWARD):
        count = min(FORWARD, inputs - k)
        for f in range(0, whole, width):
            multiply(at, x, k, inputs, 1, 0, w, k * outputs + f, outputs, 0,
                     sums, n * f, width, n, count, count, k > 0, width)  # fmt: skip
        if whole < outputs:
            into_panels(w, k * outputs + whole, outputs, count, outputs - whole, edge, width)
            multiply(at, x, k, inputs, 1, 0, edge, 0, width, 0,
                     sums, n * whole, width, n, count, count, k > 0, width)  # fmt: skip
    for f in range(0, outputs, LANES):
        bias = load(b, f, outputs - f)
        for i in range(n):
            value = load(sums, f // width * n * width + i * width + f % width, LANES)
            store(y, i * outputs + f, outputs - f, value + bias)


@jit(int64, two, two, two, one, one, int64)
def backward_input(at, dy, w, dx, turned, sums, width):
    """dx = dy @ w', as the transpose of w @ dy'."""
    # dy is (N,F), w is (C,F), dx is (N,C), turned is (panels*F*width,), sums is (ROWS*width,)
    n, outputs = dy.shape
    inputs = w.shape[0]
    for i in range((n + width - 1) // width * width):
        for f in range(outputs):
            turned[(i // width * outputs + f) * width + i % width] = dy[i, f] if i < n else 0
    for c in range(0, inputs, ROWS):
        rows = min(ROWS, inputs - c)
        for i in range(0, n, width):
            for f in range(0, outputs, BACKWARD):
                count = min(BACKWARD, outputs - f)
                multiply(at, w, c * outputs + f, outputs, 1, 0,
                         turned, (i * outputs) + f * width, width, 0,
                         sums, 0, width, rows, count, count, f > 0, width)  # fmt: skip
            for j in range(min(width, n - i)):
                for r in range(rows):
                    dx[i + j, c + r] = sums[r * width + j]


@jit(int64, two, two, whole_numbers, two, one, one, two, two, int64)
def backward_weights(at, dy, x, bounds, dw, db, edge, parts, stack, width):
    """dw = x' @ dy, and db the sum of dy: one chain over the samples of each part.

    `bounds` are the samples where the parts begin, and the end of the last; the parts' gradients
    are added along the tree.
    """
    # dy is (N,F), x is (N,C), dw is (C,F), db is (F,), edge is (N*width,), parts is
    # (levels,ROWS*width), stack is (levels,padded F)
    n, outputs = dy.shape
    inputs, size = x.shape[1], parts.shape[1]
    whole = outputs // width * width
    if whole < outputs:
        into_panels(dy, whole, outputs, n, outputs - whole, edge, width)
    for c in range(0, inputs, ROWS):
        rows = min(ROWS, inputs - c)
        for f in range(0, outputs, width):
            depth = 0
            for part in range(len(bounds) - 1):
                begin, count = bounds[part], bounds[part + 1] - bounds[part]
                a = x, begin * inputs + c, 1, inputs, 0
                c_ = parts, depth * size, width, rows, count, count, False, width
                if f < whole:
                    multiply(at, *a, dy, begin * outputs + f, outputs, 0, *c_)
                else:
                    multiply(at, *a, edge, begin * width, width, 0, *c_)
                depth = fold(parts, size, 0, rows * width, depth + 1, part + 1)
            fold(parts, size, 0, rows * width, depth, 0)
            for r in range(rows):
                for g in range(0, min(width, outputs - f), LANES):
                    value = load(parts, r * width + g, LANES)
                    stream(dw, (c + r) * outputs + f + g, outputs - f - g, value)
    streamed()
    bias_gradient(dy, bounds, stack, db)
