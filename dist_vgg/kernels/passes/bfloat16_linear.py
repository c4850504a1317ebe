"""Fully connected layers of bfloat16 on tiles: the matrix is rounded a piece at a time."""

from numba.types import int64

from dist_vgg.kernels.jit import jit
from dist_vgg.kernels.passes.halves import halves, into_pairs, store_half
from dist_vgg.kernels.passes.lanes import (
    LANES,
    load,
    one,
    store,
    stream,
    streamed,
    two,
    whole_numbers,
)
from dist_vgg.kernels.passes.sizes import AT_ONCE, BLOCK
from dist_vgg.kernels.passes.tile_product import multiply_tiles
from dist_vgg.kernels.passes.tiles import bias_gradient, fold


@jit(int64, halves, two, one, halves, one, two)
def forward(at, x, w, b, panel, sums, y):
    """y = x @ w + b; the matrix is read in the order of memory, some rows at a time."""
    # x is (padded N,padded C), w is (C,F), b is (F,), panel is (AT_ONCE*32,), sums is
    # (panels,padded N,32), y is (N,F)
    n, outputs = y.shape
    inputs = w.shape[0]
    width, size = (inputs + 31) // 32 * 32, (n + 31) // 32 * 1024
    for k in range(0, inputs, AT_ONCE):
        count = min(AT_ONCE, inputs - k)
        for f in range(0, outputs, 32):
            into_pairs(w, k * outputs + f, outputs, count, outputs - f, panel, 0)
            multiply_tiles(at, x, k, width, 0, 1, (count + 31) // 32,
                           panel, 0, sums, f // 32 * size, 32, n, k > 0)  # fmt: skip
    for f in range(0, outputs, LANES):
        bias, place = load(b, f, outputs - f), f // 32 * size + f % 32
        for i in range(n):
            value = load(sums, place + 32 * i, LANES) + bias
            store(y, i * outputs + f, outputs - f, value)


@jit(int64, two, two, halves, halves, one)
def backward_input(at, dy, w, lines, pairs, dx):
    """dx' = w @ dy', where dy is given turned, and so is dx."""
    # dy is (F,N), w is (C,F), lines is (BLOCK,padded F), pairs is (panels,steps,1024), dx is
    # (padded C,padded N)
    outputs, n = dy.shape
    inputs, steps = w.shape[0], (outputs + 31) // 32
    width, columns = 32 * steps, (n + 31) // 32 * 32
    for i in range(0, n, 32):
        into_pairs(dy, i, n, outputs, n - i, pairs, i * width)
    for c in range(0, inputs, BLOCK):
        rows = min(BLOCK, inputs - c)
        for r in range(rows):
            for f in range(0, width, LANES):
                store_half(lines, r * width + f, LANES, load(w, (c + r) * outputs + f, outputs - f))
        for i in range(0, n, 32):
            multiply_tiles(at, lines, 0, width, 0, 1, steps, pairs, i * width,
                           dx, c * columns + i, columns, rows, False)  # fmt: skip


@jit(int64, two, halves, whole_numbers, whole_numbers, halves, two, two, two, one)
def backward_weights(at, dy, x, bounds, starts, pairs, parts, stack, dw, db):
    """dw = x' @ dy, and db the sum of dy: by tiles over the samples of each part.

    `bounds` are the samples where the parts begin, and the end of the last; the parts' gradients
    are added along the tree.
    """
    # dy is (N,F), x is turned: of each part (padded C,padded samples), from `starts` on over
    # padded C; pairs is (panels,padded samples of all,32), parts is (levels,BLOCK*32), stack is
    # (levels,padded F), dw is (C,F), db is (F,)
    outputs, inputs, size = dy.shape[1], dw.shape[0], parts.shape[1]
    padded, together = (inputs + 31) // 32 * 32, starts[len(starts) - 1]
    for f in range(0, outputs, 32):
        for part in range(len(bounds) - 1):
            into_pairs(dy, bounds[part] * outputs + f, outputs, bounds[part + 1] - bounds[part],
                       outputs - f, pairs, f * together + starts[part] * 32)  # fmt: skip
    for c in range(0, inputs, BLOCK):
        rows = min(BLOCK, inputs - c)
        for f in range(0, outputs, 32):
            depth = 0
            for part in range(len(bounds) - 1):
                width = starts[part + 1] - starts[part]
                multiply_tiles(at, x, starts[part] * padded + c * width, width, 0, 1, width // 32,
                               pairs, f * together + starts[part] * 32,
                               parts, depth * size, 32, rows, False)  # fmt: skip
                depth = fold(parts, size, 0, rows * 32, depth + 1, part + 1)
            fold(parts, size, 0, rows * 32, depth, 0)
            for r in range(rows):
                for g in range(f, min(f + 32, outputs), LANES):
                    value = load(parts, 32 * r + g - f, LANES)
                    stream(dw, (c + r) * outputs + g, outputs - g, value)
    streamed()
    bias_gradient(dy, bounds, stack, db)
