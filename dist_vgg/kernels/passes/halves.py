"""Numbers that lie in memory as bfloat16, in arrays of uint16, and are float32 in registers.

The rounding is that of ../bfloat16_format.py.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from dist_vgg.kernels.bfloat16_format import INFINITY_BITS, NAN, SMALLEST_BITS
from dist_vgg.kernels.passes.lanes import I32, Lanes, call, first_lanes, inline, load, place_of
from dist_vgg.kernels.passes.sizes import LANES

# What compiled functions take: bfloat16 in one and four dimensions.
halves, halves_4 = types.uint16[::1], types.uint16[:, :, :, ::1]
HALF, WORDS = ir.VectorType(ir.IntType(16), LANES), ir.VectorType(I32, LANES)


def constant(number: int) -> Any:
    """LLVM's vector of one whole number, repeated."""
    return ir.Constant(WORDS, [number] * LANES)


def widen(builder: Any, words: Any, vector: Any) -> Any:
    """The float32 numbers of bfloat16 in the lower halves of words."""
    return builder.bitcast(builder.shl(words, constant(16)), vector)


def round_to_upper(builder: Any, numbers: Any) -> Any:
    """Words, whose lower halves are the bfloat16 nearest to numbers."""
    bits = builder.bitcast(numbers, WORDS)
    size = builder.and_(bits, constant(0x7FFFFFFF))
    odd = builder.and_(builder.lshr(bits, constant(16)), constant(1))
    upper = builder.lshr(builder.add(bits, builder.add(odd, constant(0x7FFF))), constant(16))
    small = builder.icmp_unsigned("<", size, constant(SMALLEST_BITS))
    upper = builder.select(small, constant(0), upper)
    nan = builder.icmp_unsigned(">", size, constant(INFINITY_BITS))
    return builder.select(nan, constant(NAN), upper)


@intrinsic
def load_words(typingctx: Any, array: Any, offset: Any, count: Any) -> Any:
    """`count` bfloat16 of an array from an offset on, in lower halves; the other lanes are 0."""
    kind = Lanes(types.uint32)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = place_of(context, builder, array, arguments[0], arguments[1], HALF)
        # Processors before AVX-512 have no masks for halves.
        with builder.if_else(_all(builder, arguments[2])) as (whole, part):
            with whole:
                loaded = builder.load(place)
                loaded.align = 2
                after_whole = builder.block
            with part:
                name, zeros = f"llvm.masked.load.v{LANES}i16.p0", ir.Constant(HALF, None)
                mask = first_lanes(builder, arguments[2])
                masked = call(builder, name, HALF, place, I32(2), mask, zeros)
                after_part = builder.block
        found = builder.phi(HALF)
        found.add_incoming(loaded, after_whole)
        found.add_incoming(masked, after_part)
        return builder.zext(found, WORDS)

    return kind(array, types.int64, types.int64), generate


@intrinsic
def as_numbers(typingctx: Any, words: Any) -> Any:
    """The float32 numbers of bfloat16 in lower halves."""
    kind = Lanes(types.float32)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return widen(builder, arguments[0], context.get_value_type(kind))

    return kind(words), generate


@intrinsic
def rounded(typingctx: Any, numbers: Any) -> Any:
    """The nearest bfloat16, in lower halves."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return round_to_upper(builder, arguments[0])

    return Lanes(types.uint32)(numbers), generate


@inline
def load_half(array, offset, count):
    """`count` bfloat16 of an array, seen as flat, from an offset on; the other lanes are 0."""
    return as_numbers(load_words(array, offset, count))


@intrinsic
def store_words(typingctx: Any, array: Any, offset: Any, count: Any, words: Any) -> Any:
    """Write the lower halves of the first `count` lanes to an array from an offset on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = place_of(context, builder, array, arguments[0], arguments[1], HALF)
        lower = builder.trunc(arguments[3], HALF)
        with builder.if_else(_all(builder, arguments[2])) as (whole, part):
            with whole:
                builder.store(lower, place).align = 2
            with part:
                mask = first_lanes(builder, arguments[2])
                name = f"llvm.masked.store.v{LANES}i16.p0"
                call(builder, name, ir.VoidType(), lower, place, I32(2), mask)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, words), generate


@inline
def store_half(array, offset, count, value):
    """Round the first `count` lanes, and write them to an array from an offset on."""
    store_words(array, offset, count, rounded(value))


@intrinsic
def store_pairs(typingctx: Any, array: Any, offset: Any, even: Any, odd: Any) -> Any:
    """Write the lower halves of two vectors by turns."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = place_of(context, builder, array, arguments[0], arguments[1], WORDS)
        _, _, first, second = arguments
        builder.store(builder.or_(first, builder.shl(second, constant(16))), place).align = 2
        return context.get_dummy_value()

    return types.void(array, types.int64, even, odd), generate


def words(array: Any, offset: Any, count: Any) -> Any:
    """`load_words` of an array of bfloat16; of one of float32, its numbers rounded."""
    raise NotImplementedError("only compiled functions call it")


@overload(words)
def _words(array, offset, count):
    if array.dtype == types.uint16:
        return lambda array, offset, count: load_words(array, offset, count)
    return lambda array, offset, count: rounded(load(array, offset, count))


def _all(builder: Any, count: Any) -> Any:
    """Whether all lanes count."""
    return builder.icmp_signed(">=", count, ir.Constant(count.type, LANES))


@inline
def into_pairs(b, start, step, rows, columns, panel, place):
    """Copy up to 32 columns of a matrix into tiles, for the second factor of a product.

    Its rows are `step` apart. 32 rows make two tiles of 16 columns. A line of a tile is two rows by
    turns: number k of a column beside number k + 1. What is missing is 0.
    """
    # panel is ((rows/32 rounded up) * 2*16*16*2,) from `place` on
    for k in range(0, (rows + 31) // 32 * 32, 2):
        line = place + k // 32 * 1024 + k % 32 * 16
        for g in range(2):
            even = words(b, start + k * step + 16 * g, columns - 16 * g if k < rows else 0)
            odd = words(b, start + (k + 1) * step + 16 * g, columns - 16 * g if k + 1 < rows else 0)
            store_pairs(panel, line + 512 * g, even, odd)
