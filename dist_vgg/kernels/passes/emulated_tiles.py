"""Tile products in plain float32 arithmetic, for processors that have no tiles: the same bits.

The sums of a block stay where a tile would be stored. Their two chains are in registers.
"""

from collections.abc import Sequence
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
    whole = types.int64

    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        a_, a0_, a_row_, b_, b0_, c_, c0_, c_row_ = arguments
        cells = [(i, j) for i in range(ROWS) for j in range(2)]
        chains = {cell: [cgutils.alloca_once(builder, VECTOR) for _ in range(2)] for cell in cells}

        def pairs(kind: Any, array: Any, start: Any, row: Any, offset: Any, vector: Any) -> Any:
            place = builder.add(builder.add(start, row), offset)
            loaded = builder.load(place_of(context, builder, kind, array, place, vector))
            loaded.align = 2
            return loaded

        with cgutils.for_range(builder, I64(32 // ROWS)) as rows:
            row = [builder.add(builder.mul(rows.index, I64(ROWS)), I64(i)) for i in range(ROWS)]
            for chain in chains.values():
                for part in chain:
                    builder.store(ir.Constant(VECTOR, None), part)
            with cgutils.for_range(builder, I64(16)) as k:
                line = builder.mul(k.index, I64(32))
                of_b = [pairs(b, b_, b0_, line, I64(512 * j), WORDS) for j in range(2)]
                two = builder.mul(k.index, I64(2))
                of_a = [pairs(a, a_, a0_, builder.mul(i, a_row_), two, I32) for i in row]
                for i, j in cells:
                    _multiply(builder, broadcast(builder, of_a[i]), of_b[j], chains[i, j])
            for i, j in cells:
                place = builder.add(builder.add(c0_, builder.mul(row[i], c_row_)), I64(16 * j))
                sums = place_of(context, builder, c, c_, place, VECTOR)
                _add(builder, sums, chains[i, j])
        return context.get_dummy_value()

    return types.void(a, whole, whole, b, whole, c, whole, whole), generate


def _multiply(builder: Any, a: Any, b: Any, chain: Sequence[Any]) -> None:
    """Continue the chains of the even and the odd members by a product of pairs."""
    for part, x, y in zip(chain, _members(builder, a), _members(builder, b), strict=True):
        total = call(builder, f"llvm.fma.v{LANES}f32", VECTOR, x, y, builder.load(part))
        builder.store(total, part)


def _members(builder: Any, pairs: Any) -> tuple[Any, Any]:
    """The even and the odd members of pairs."""
    return widen(builder, pairs, VECTOR), builder.bitcast(builder.and_(pairs, UPPER), VECTOR)


def _add(builder: Any, sums: Any, chain: Sequence[Any]) -> None:
    before = builder.load(sums)
    before.align = 4
    both = builder.fadd(*(builder.load(part) for part in chain))
    builder.store(builder.fadd(before, both), sums).align = 4


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
