"""Vectors of bytes beside those of numbers: which pixel of a window was chosen."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from dist_vgg.kernels.passes.lanes import I32, broadcast, call, first_lanes, place_of
from dist_vgg.kernels.passes.sizes import LANES

I8 = ir.IntType(8)


@intrinsic
def choose(typingctx: Any, a: Any, b: Any, yes: Any, no: Any) -> Any:
    """yes where a is greater than b or NaN, else no."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b, yes, no = arguments
        greater = builder.fcmp_ordered(">", a, b)
        return builder.select(builder.or_(greater, builder.fcmp_unordered("uno", a, a)), yes, no)

    return yes(a, b, yes, no), generate


@intrinsic
def store_bytes(typingctx: Any, array: Any, offset: Any, count: Any, value: Any) -> Any:
    """Write the first `count` lanes, whole numbers from 0 to 255, to an array of bytes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = ir.VectorType(I8, LANES)
        place = place_of(context, builder, array, arguments[0], arguments[1], vector)
        value = builder.fptoui(arguments[3], vector)
        # Processors before AVX-512 have no masks for bytes.
        with builder.if_else(_all(builder, arguments[2])) as (whole, part):
            with whole:
                builder.store(value, place).align = 1
            with part:
                mask = first_lanes(builder, arguments[2])
                name = f"llvm.masked.store.v{LANES}i8.p0"
                call(builder, name, ir.VoidType(), value, place, I32(1), mask)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, value), generate


@intrinsic
def where_byte(typingctx: Any, array: Any, offset: Any, count: Any, number: Any, a: Any) -> Any:
    """a where `count` bytes of an array from an offset on have a number; else 0, also beyond."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = ir.VectorType(I8, LANES)
        place = place_of(context, builder, array, arguments[0], arguments[1], vector)
        with builder.if_else(_all(builder, arguments[2])) as (whole, part):
            with whole:
                loaded = builder.load(place)
                loaded.align = 1
                after_whole = builder.block
            with part:
                mask, nothing = (
                    first_lanes(builder, arguments[2]),
                    ir.Constant(vector, [255] * LANES),
                )
                name = f"llvm.masked.load.v{LANES}i8.p0"
                masked = call(builder, name, vector, place, I32(1), mask, nothing)
                after_part = builder.block
        found = builder.phi(vector)
        found.add_incoming(loaded, after_whole)
        found.add_incoming(masked, after_part)
        wanted = broadcast(builder, builder.trunc(arguments[3], I8))
        zeros = ir.Constant(arguments[4].type, None)
        return builder.select(builder.icmp_unsigned("==", found, wanted), arguments[4], zeros)

    return a(array, types.int64, types.int64, types.int64, a), generate


def _all(builder: Any, count: Any) -> Any:
    """Whether all lanes count."""
    return builder.icmp_signed(">=", count, ir.Constant(count.type, LANES))
