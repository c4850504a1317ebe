"""Sums over whole vectors, in one pass over memory."""

from numba.types import float64, int64

from dist_vgg.kernels.jit import jit
from dist_vgg.kernels.passes.lanes import load, one, store, widened
from dist_vgg.kernels.passes.sizes import LANES, SQUARES


@jit(one, int64, float64[::1], float64[::1])
def squares(x, grain, lanes, out):
    """The sum of squares of each grain of x, in float64; see `ordered.squares`."""
    # x is (n,), lanes is (SQUARES,), out is (grains,)
    for g in range(len(out)):
        end = min((g + 1) * grain, len(x))
        lanes[:] = 0
        for start in range(g * grain, end, SQUARES):
            for i in range(0, min(SQUARES, end - start), LANES):
                value = widened(load(x, start + i, end - start - i))
                store(lanes, i, LANES, load(lanes, i, LANES) + value * value)
        total = lanes[0]
        for i in range(1, SQUARES):
            total += lanes[i]
        out[g] = total
