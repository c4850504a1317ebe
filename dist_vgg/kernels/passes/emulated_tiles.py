"""Tile products in plain float32 arithmetic, for processors that have no tiles: the same bits.

The sums of a block stay where a tile would be stored. Their two chains are in registers.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from dist_vgg.kernels.passes.halves import WORDS, constant, widen
from dist_vgg.kernels.passes.lanes import I32, I64, broadcast, call, inline, place_of, splat, store
from dist_vgg.kernels.passes.sizes import LANES, WIDEST
from dist_vgg.kernels.passes.tile_product import define

VECTOR = ir.VectorType(ir.FloatType(), LANES)
ROWS = 4 if WIDEST == 4 else 1  # whose chains the registers hold: 4 for each row
UPPER = constant(0xFFFF0000)


@intrinsic
def step(
    typingctx: Any, a: Any, a0: Any, a_row: Any, b: Any, b0: Any, c: Any, c0: Any, c_row: Any
) -> Any:
    """Add the product of two tiles of a and two of b to 32x32 sums."""
    kinds = (a, types.int64, types.int64, b, types.int64, c, types.int64, types.int64)

    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        a_, a0_, a_row_, b_, b0_, c_, c0_, c_row_ = arguments

        def words(kind: Any, array: Any, offset: Any, vector: Any) -> Any:
            loaded = builder.load(place_of(context, builder, kind, array, offset, vector))
            loaded.align = 2
            return loaded

        def parts(pairs: Any) -> tuple[Any, Any]:
            """The even and the odd members of pairs."""
            return widen(builder, pairs, VECTOR), builder.bitcast(builder.and_(pairs, UPPER), VECTOR)

        chains = {
            (i, j, odd): cgutils.alloca_once(builder, VECTOR)
            for i in range(ROWS) for j in range(2) for odd in range(2)
        }  # fmt: skip
        with cgutils.for_range(builder, I64(32 // ROWS)) as loop:
            first = builder.mul(loop.index, I64(ROWS))
            for chain in chains.values():
                builder.store(ir.Constant(VECTOR, None), chain)
            with cgutils.for_range(builder, I64(16)) as pairs:
                line = builder.add(b0_, builder.mul(pairs.index, I64(32)))
                of_b = [parts(words(b, b_, builder.add(line, I64(512 * j)), WORDS)) for j in (0, 1)]
                for i in range(ROWS):
                    row = builder.mul(builder.add(first, I64(i)), a_row_)
                    place = builder.add(builder.add(a0_, row), builder.mul(pairs.index, I64(2)))
                    of_a = parts(broadcast(builder, words(a, a_, place, I32)))
                    for j in range(2):
                        for odd in range(2):
                            chain = chains[i, j, odd]
                            operands = of_a[odd], of_b[j][odd], builder.load(chain)
                            total = call(builder, f"llvm.fma.v{LANES}f32", VECTOR, *operands)
                            builder.store(total, chain)
            for i in range(ROWS):
                row = builder.mul(builder.add(first, I64(i)), c_row_)
                for j in range(2):
                    both = builder.fadd(*(builder.load(chains[i, j, odd]) for odd in range(2)))
                    offset = builder.add(builder.add(c0_, row), I64(16 * j))
                    place = place_of(context, builder, c, c_, offset, VECTOR)
                    before = builder.load(place)
                    before.align = 4
                    builder.store(builder.fadd(before, both), place).align = 4
        return context.get_dummy_value()

    return types.void(*kinds), generate


@inline
def clear(c, c0, c_row):
    """Set the sums to 0."""
    for i in range(32):
        store(c, c0 + i * c_row, LANES, splat(c, 0.0))
        store(c, c0 + i * c_row + 16, LANES, splat(c, 0.0))


@inline
def in_place(c, c0, c_row):
    """Nothing: the sums are where they belong."""


@inline
def nothing():
    """Nothing: there are no tiles to set up."""


product = define(nothing, clear, in_place, step, in_place, nothing)
