"""Tile products by the tiles of AMX: registers 0 to 3 hold the sums, 4 and 5 a, 6 and 7 b.

The numbers of tile registers are written out, so that LLVM needs to choose none. Intel, "Intel 64
and IA-32 architectures software developer's manual", volume 1, chapter 18.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from dist_vgg.kernels.passes.lanes import I64, call, data
from dist_vgg.kernels.passes.tile_product import define

I8 = ir.IntType(8)
TILES, ROWS, ROW_BYTES, PALETTE = 8, 16, 64, 1
# 64 bytes: the palette, 15 others, bytes of a row of each tile in 16 bits, and rows of each tile.
CONFIGURATION = bytes(
    [PALETTE, *15 * [0], *TILES * [ROW_BYTES, 0], *16 * [0], *TILES * [ROWS], *8 * [0]]
)
SUMS = (0, 0, 0), (1, 0, 16), (2, 16, 0), (3, 16, 16)  # tile, first row, first column


def _tile(builder: Any, name: str, *arguments: Any) -> None:
    call(builder, f"llvm.x86.{name}", ir.VoidType(), *arguments)


def _move(context: Any, builder: Any, name: str, tile: int, kind: Any, array: Any, place: Any,
          row: Any) -> None:  # fmt: skip
    """Load or store a tile: its rows are `row` numbers apart, from `place` on."""
    at = builder.gep(data(context, builder, kind, array), [place], inbounds=True)
    size = I64(kind.dtype.bitwidth // 8)
    at = builder.bitcast(at, I8.as_pointer())
    _tile(builder, name, I8(tile), at, builder.mul(row, size))


@intrinsic
def begin(typingctx: Any) -> Any:
    """Set the tiles up.

    That and `end` are within each call of a product, which takes long enough for both: so no tile
    is in use outside of it. Switches of threads that read or send then save no tiles, and a forked
    process starts without any. Who interrupts a call finds them saved with all other registers.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.ArrayType(I8, len(CONFIGURATION))
        content = ir.Constant(kind, bytearray(CONFIGURATION))
        place = cgutils.global_constant(builder, "tile_configuration", content)
        _tile(builder, "ldtilecfg", builder.bitcast(place, I8.as_pointer()))
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def end(typingctx: Any) -> Any:
    """Give the tiles back."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _tile(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def clear(typingctx: Any, c: Any, c0: Any, c_row: Any) -> Any:
    """Set the sums to 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        for tile, _, _ in SUMS:
            _tile(builder, "tilezero", I8(tile))
        return context.get_dummy_value()

    return types.void(c, types.int64, types.int64), generate


def _sums(name: str) -> Any:
    """All four tiles of sums, loaded or stored."""

    def move(typingctx: Any, c: Any, c0: Any, c_row: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            c_, c0_, row = arguments
            for tile, first, column in SUMS:
                place = builder.add(c0_, builder.mul(row, I64(first)))
                place = builder.add(place, I64(column))
                _move(context, builder, name, tile, c, c_, place, row)
            return context.get_dummy_value()

        return types.void(c, types.int64, types.int64), generate

    return intrinsic(move)


@intrinsic
def step(
    typingctx: Any, a: Any, a0: Any, a_row: Any, b: Any, b0: Any, c: Any, c0: Any, c_row: Any
) -> Any:
    """Add the product of two tiles of a and two of b to the sums."""
    whole = types.int64

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a_, a0_, row, b_, b0_ = arguments[:5]
        below = builder.add(a0_, builder.mul(row, I64(ROWS)))
        beside = builder.add(b0_, I64(512))
        for tile, place in ((4, a0_), (5, below)):
            _move(context, builder, "tileloadd64", tile, a, a_, place, row)
        for tile, place in ((6, b0_), (7, beside)):
            _move(context, builder, "tileloadd64", tile, b, b_, place, I64(32))
        for total, of_a, of_b in ((0, 4, 6), (1, 4, 7), (2, 5, 6), (3, 5, 7)):
            _tile(builder, "tdpbf16ps", I8(total), I8(of_a), I8(of_b))
        return context.get_dummy_value()

    return types.void(a, whole, whole, b, whole, c, whole, whole), generate


product = define(begin, clear, _sums("tileloadd64"), step, _sums("tilestored64"), end)
