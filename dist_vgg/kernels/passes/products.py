"""Products of matrices: tiles of the micro-kernel over all rows, panel by panel.

A panel is `width` neighbouring columns of a matrix, all its rows one after the other. The second
factor lies in panels, so that the micro-kernel reads it in the order of memory; whoever makes a
matrix writes it in panels, and no product copies one.

Each number of a product is one chain of fused multiply-adds over k, first to last; who wants a long
sum in several chains calls with a part of k at a time, and `add`.
"""

from collections.abc import Sequence
from typing import Any

from numba import types
from numba.extending import intrinsic

from dist_vgg.kernels.jit import jit
from dist_vgg.kernels.passes.lanes import data, inline
from dist_vgg.kernels.passes.microkernel import tile
from dist_vgg.kernels.passes.sizes import WIDEST


def signature(number: Any) -> tuple[Any, ...]:
    """The types of `product`'s arguments, for numbers of a type."""
    i, place = types.int64, types.CPointer(number)
    return (place, i, i, i, i, place, i, i, i, place, i, i, i, i, i, types.boolean, i)


def _panel_product(height: int, vectors: int) -> Any:
    """The product with a panel of `vectors` * 16 columns, in tiles of `height` rows."""
    full, four, two, one = (tile(rows, vectors) for rows in (height, 4, 2, 1))

    @inline
    def multiply(
        a, a0, a_row, a_k, a_panel, b, b0, b_k, b_panel, c, c0, c_row, rows, count, panel, add
    ):
        while rows >= height:
            full(a, a0, a_row, a_k, a_panel, b, b0, b_k, b_panel, c, c0, c_row, count, panel, add)
            a0, c0, rows = a0 + height * a_row, c0 + height * c_row, rows - height
        while rows >= 4:
            four(a, a0, a_row, a_k, a_panel, b, b0, b_k, b_panel, c, c0, c_row, count, panel, add)
            a0, c0, rows = a0 + 4 * a_row, c0 + 4 * c_row, rows - 4
        if rows >= 2:
            two(a, a0, a_row, a_k, a_panel, b, b0, b_k, b_panel, c, c0, c_row, count, panel, add)
            a0, c0, rows = a0 + 2 * a_row, c0 + 2 * c_row, rows - 2
        if rows:
            one(a, a0, a_row, a_k, a_panel, b, b0, b_k, b_panel, c, c0, c_row, count, panel, add)

    return multiply


# As many sums as the registers hold, beside a line of b and a number of a.
_product_64 = _panel_product(6, 4)
_product_32 = _panel_product(12, 2)
_product_16 = _panel_product(12 if WIDEST == 4 else 6, 1)


@jit(*signature(types.float32))
def product(
    a, a0, a_row, a_k, a_panel, b, b0, b_k, b_panel, c, c0, c_row, rows, count, panel, add, width
):
    """The function that `multiply` calls."""
    if width == 64:
        _product_64(a, a0, a_row, a_k, a_panel, b, b0, b_k, b_panel, c, c0, c_row, rows, count,
                    panel, add)  # fmt: skip
    elif width == 32:
        _product_32(a, a0, a_row, a_k, a_panel, b, b0, b_k, b_panel, c, c0, c_row, rows, count,
                    panel, add)  # fmt: skip
    else:
        _product_16(a, a0, a_row, a_k, a_panel, b, b0, b_k, b_panel, c, c0, c_row, rows, count,
                    panel, add)  # fmt: skip


@intrinsic
def multiply(
    typingctx, at, a, a0, a_row, a_k, a_panel, b, b0, b_k, b_panel, c, c0, c_row, rows, count,
    panel, add, width,
):  # fmt: skip
    """c = a @ b for one panel of b, `width` columns; with `add`, c += a @ b.

    The matrices begin at a0, b0 and c0 of arrays, seen as flat; the steps are those of the
    micro-kernel, `rows` those of a and c, and `count` is the length of each sum. `at` is the
    address of `product`: called by it, the tiles are compiled once and not again within every
    caller.
    """
    kinds = signature(a.dtype)
    given = (a, a0, a_row, a_k, a_panel, b, b0, b_k, b_panel, c, c0, c_row, rows, count, panel,
             add, width)  # fmt: skip

    def generate(context, builder, _, arguments):
        return call_at(context, builder, kinds, given, arguments)

    return types.void(types.int64, *given), generate


def call_at(
    context: Any, builder: Any, kinds: Sequence[Any], given: Sequence[Any], arguments: Sequence[Any]
) -> Any:
    """Call the function at an address, the first argument, with the others.

    `kinds` are the types that it takes, and `given` those of the arguments; an array is passed as a
    pointer to its numbers.
    """
    function = context.call_conv.get_function_type(types.none, kinds)
    place = builder.inttoptr(arguments[0], function.as_pointer())
    passed = [
        data(context, builder, have, value) if isinstance(have, types.Array)
        else context.cast(builder, value, have, want)
        for have, want, value in zip(given, kinds, arguments[1:], strict=True)
    ]  # fmt: skip
    context.call_conv.call_function(builder, place, types.none, kinds, passed)
    return context.get_dummy_value()
