"""Sums over whole vectors: memory limits them, so each number is read once."""

from numba.types import float64, int64

from dist_vgg.kernels.jit import jit
from dist_vgg.kernels.passes.lanes import load, one, pointer, store, whole_numbers, widened
from dist_vgg.kernels.passes.sizes import AT_A_TIME, LANES, SQUARES


@jit(whole_numbers, whole_numbers, int64, one)
def add_up(places, folds, count, stack):
    """Add arrays of `count` numbers that begin at addresses; see `ordered.add_up`."""
    # places and folds are (arrays,), stack is (sums at a time * AT_A_TIME,)
    for start in range(0, count, AT_A_TIME):
        end, depth = min(start + AT_A_TIME, count), 0
        for i in range(len(places)):
            numbers = pointer(places[i], stack)
            top = (depth - 1) * AT_A_TIME - start
            for k in range(start, end, LANES):
                value = load(numbers, k, end - k)
                if folds[i] > 0:
                    store(stack, top + k, LANES, load(stack, top + k, LANES) + value)
                else:
                    store(stack, top + AT_A_TIME + k, LANES, value)
            depth += folds[i] == 0
            for _ in range(1, folds[i]):
                depth -= 1
                for k in range((depth - 1) * AT_A_TIME, depth * AT_A_TIME, LANES):
                    total = load(stack, k, LANES) + load(stack, k + AT_A_TIME, LANES)
                    store(stack, k, LANES, total)
        # From the end: each sum goes to its first array.
        pending = 0
        for i in range(len(places) - 1, -1, -1):
            pending += folds[i]
            if pending > 0:
                pending -= 1
            else:
                depth -= 1
                numbers, sums = pointer(places[i], stack), depth * AT_A_TIME - start
                for k in range(start, end, LANES):
                    store(numbers, k, end - k, load(stack, sums + k, LANES))


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
