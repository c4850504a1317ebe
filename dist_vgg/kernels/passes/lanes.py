"""Vectors of 16 numbers: what a pass over memory works on at a time.

+, -, * and / work lane by lane, and `fma(a, b, c)` is a * b + c, rounded once. LLVM turns 16 lanes
into the vectors that the processor has; each lane rounds by itself, so the bits are the same on
all of them.

Numba has no such vectors of its own, and leaves a plain loop over channels at half the speed.
"""

import operator
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

from dist_vgg.kernels.jit import OPTIONS
from dist_vgg.kernels.passes.sizes import LANES

# What compiled functions take: numbers in one, two and four dimensions, and whole numbers.
one, two, four = types.float32[::1], types.float32[:, ::1], types.float32[:, :, :, ::1]
whole_numbers, marks = types.int64[::1], types.uint8[:, :, :, ::1]
# For functions that only compiled ones call; they are compiled within each of these.
inline = numba.njit(**OPTIONS)
I32, I64 = ir.IntType(32), ir.IntType(64)


class Lanes(types.Type):
    """Numba's type of 16 numbers of a dtype."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Lanes) -> None:
        number = manager.lookup(kind.dtype).get_value_type()
        super().__init__(manager, kind, ir.VectorType(number, LANES))


def broadcast(builder: Any, value: Any) -> Any:
    """LLVM's vector of one number, repeated."""
    undefined = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    one = builder.insert_element(undefined, value, I32(0))
    return builder.shuffle_vector(
        one, undefined, ir.Constant(ir.VectorType(I32, LANES), [0] * LANES)
    )


def call(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    """A call of LLVM's own function for 16 lanes, such as llvm.fma."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def suffix(dtype: Any) -> str:
    """What LLVM's names for functions of these lanes end with."""
    return f"v{LANES}f{dtype.bitwidth}"


def data(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    """A pointer to the numbers of an array; a pointer is one already."""
    if isinstance(kind, types.CPointer):
        return array
    return context.make_array(kind)(context, builder, array).data


def place_of(context: Any, builder: Any, kind: Any, array: Any, offset: Any, vector: Any) -> Any:
    """A pointer to 16 numbers of an array."""
    place = builder.gep(data(context, builder, kind, array), [offset], inbounds=True)
    return builder.bitcast(place, vector.as_pointer())


def first_lanes(builder: Any, count: Any) -> Any:
    """Which lanes are the first `count`."""
    numbers = ir.Constant(ir.VectorType(I32, LANES), list(range(LANES)))
    return builder.icmp_signed("<", numbers, broadcast(builder, builder.trunc(count, I32)))


@intrinsic
def load(typingctx: Any, array: Any, offset: Any, count: Any) -> Any:
    """`count` numbers of an array, seen as flat, from an offset on; the other lanes are 0."""
    kind = Lanes(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = context.get_value_type(kind)
        place = place_of(context, builder, array, arguments[0], arguments[1], vector)
        align, mask = I32(array.dtype.bitwidth // 8), first_lanes(builder, arguments[2])
        zeros = ir.Constant(vector, None)
        name = f"llvm.masked.load.{suffix(array.dtype)}.p0"
        return call(builder, name, vector, place, align, mask, zeros)

    return kind(array, types.int64, types.int64), generate


@intrinsic
def store(typingctx: Any, array: Any, offset: Any, count: Any, value: Any) -> Any:
    """Write the first `count` lanes to an array, seen as flat, from an offset on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = context.get_value_type(value)
        place = place_of(context, builder, array, arguments[0], arguments[1], vector)
        align, mask = I32(array.dtype.bitwidth // 8), first_lanes(builder, arguments[2])
        name = f"llvm.masked.store.{suffix(array.dtype)}.p0"
        call(builder, name, ir.VoidType(), arguments[3], place, align, mask)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, value), generate


@inline
def store_6(array, place, step, values):
    """Store six vectors, `step` numbers apart."""
    for i in range(6):
        store(array, place + i * step, LANES, values[i])


@inline
def load_6(array, place, step):
    """Load six vectors, `step` numbers apart."""
    return (
        load(array, place, LANES), load(array, place + step, LANES),
        load(array, place + 2 * step, LANES), load(array, place + 3 * step, LANES),
        load(array, place + 4 * step, LANES), load(array, place + 5 * step, LANES),
    )  # fmt: skip


@intrinsic
def stream(typingctx: Any, array: Any, offset: Any, count: Any, value: Any) -> Any:
    """`store`, but past the caches where whole lines of them are written; see `streamed`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = context.get_value_type(value)
        place = place_of(context, builder, array, arguments[0], arguments[1], vector)
        size = LANES * array.dtype.bitwidth // 8
        last = builder.and_(builder.ptrtoint(place, I64), I64(size - 1))
        whole = builder.icmp_signed(">=", arguments[2], I64(LANES))
        whole = builder.and_(whole, builder.icmp_signed("==", last, I64(0)))
        with builder.if_else(whole) as (line, part):
            with line:
                stored = builder.store(arguments[3], place)
                stored.align = size
                stored.set_metadata("nontemporal", builder.module.add_metadata([I32(1)]))
            with part:
                mask = first_lanes(builder, arguments[2])
                name = f"llvm.masked.store.{suffix(array.dtype)}.p0"
                align = I32(array.dtype.bitwidth // 8)
                call(builder, name, ir.VoidType(), arguments[3], place, align, mask)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, value), generate


@intrinsic
def streamed(typingctx: Any) -> Any:
    """Have all other processes see what `stream` has written."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def widened(typingctx: Any, a: Any) -> Any:
    """The numbers in float64."""
    kind = Lanes(types.float64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fpext(arguments[0], context.get_value_type(kind))

    return kind(a), generate


@intrinsic
def splat(typingctx: Any, array: Any, value: Any) -> Any:
    """One number in all lanes, in the type of an array's numbers."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return broadcast(builder, context.cast(builder, arguments[1], value, array.dtype))

    return Lanes(array.dtype)(array, value), generate


@intrinsic
def repeat(typingctx: Any, array: Any, offset: Any) -> Any:
    """One number of an array, seen as flat, in all lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        numbers = data(context, builder, array, arguments[0])
        place = builder.gep(numbers, [arguments[1]], inbounds=True)
        return broadcast(builder, builder.load(place))

    return Lanes(array.dtype)(array, types.int64), generate


@intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call(builder, f"llvm.fma.{suffix(a.dtype)}", arguments[0].type, *arguments)

    return a(a, b, c), generate


@intrinsic
def root(typingctx: Any, a: Any) -> Any:
    """The square root."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call(builder, f"llvm.sqrt.{suffix(a.dtype)}", arguments[0].type, *arguments)

    return a(a), generate


def _operator(symbol: Any, instruction: str) -> None:
    """Teach Numba an operator between lanes."""

    @intrinsic
    def run(typingctx: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, instruction)(*arguments)

        return a(a, b), generate

    @overload(symbol)
    def operate(a, b):
        if isinstance(a, Lanes) and isinstance(b, Lanes):
            return lambda a, b: run(a, b)
        return None


_operator(operator.add, "fadd")
_operator(operator.sub, "fsub")
_operator(operator.mul, "fmul")
_operator(operator.truediv, "fdiv")


@intrinsic
def where_positive(typingctx: Any, a: Any, y: Any) -> Any:
    """a where y is positive, else 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        zeros = ir.Constant(arguments[0].type, None)
        positive = builder.fcmp_ordered(">", arguments[1], zeros)
        return builder.select(positive, arguments[0], zeros)

    return a(a, y), generate


@intrinsic
def rectified(typingctx: Any, a: Any) -> Any:
    """a where it is not negative, else 0; NaN stays NaN, so that whoever looks finds it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        zeros = ir.Constant(arguments[0].type, None)
        negative = builder.fcmp_ordered("<", arguments[0], zeros)
        return builder.select(negative, zeros, arguments[0])

    return a(a), generate
