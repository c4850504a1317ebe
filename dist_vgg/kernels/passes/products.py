"""Products of matrices: tiles of the micro-kernel over all rows, panel by panel.

A panel is `width` neighbouring columns of a matrix, all its rows one after the other. The second
factor lies in panels, so that the micro-kernel reads it in the order of memory; whoever makes a
matrix writes it in panels, and no product copies one.

Each number of a product is one chain of fused multiply-adds over k, first to last; who wants a long
sum in several chains calls with a part of k at a time, and `add`.
"""

from functools import cache
from typing import Any

import numba
import numpy as np
from llvmlite import binding
from numba import types
from numba.extending import intrinsic

from dist_vgg.kernels.jit import jit
from dist_vgg.kernels.passes.lanes import LANES, inline
from dist_vgg.kernels.passes.microkernel import tile

# AVX-512 has 32 registers of 16 numbers; AVX2 has 16 of 8, and NEON 32 of 4. There, one vector of
# 16 is as wide as a tile may be.
FEATURES = numba.config.CPU_FEATURES or binding.get_host_cpu_features().flatten()
WIDEST = 4 if "+avx512f" in FEATURES else 1
DEPTH = 128  # k at a time: that much of a panel stays in the first cache


def signature(number: Any) -> Any:
    """The arguments of `multiply` behind the address."""
    i, array = types.int64, types.Array(number, 1, "C")
    return types.none(array, i, i, i, i, array, i, i, i, array, i, i, i, i, i, types.boolean, i)


def panel_width(columns: int) -> int:
    """Columns of each panel of a matrix that has so many: 16, 32 or 64."""
    vectors = WIDEST
    while vectors > 1 and LANES * vectors // 2 >= columns:
        vectors //= 2
    return LANES * vectors


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


@jit(signature(types.float32).args)
def _multiply(
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


@cache
def address(dtype: np.dtype) -> int:
    """Where the machine code of `multiply` is, for numbers of a dtype."""
    kinds = signature(numba.from_dtype(dtype)).args
    _multiply.compile(kinds)
    compiled = _multiply.overloads[kinds]
    place: int = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    return place


@intrinsic
def multiply(
    typingctx, at, a, a0, a_row, a_k, a_panel, b, b0, b_k, b_panel, c, c0, c_row, rows, count,
    panel, add, width,
):  # fmt: skip
    """c = a @ b for one panel of b, `width` columns; with `add`, c += a @ b.

    The matrices begin at a0, b0 and c0 of flat arrays; the steps are those of the micro-kernel,
    `rows` those of a and c, and `count` is the length of each sum. `at` is the function's
    `address`: called by it, the tiles are compiled once and not again within every caller.
    """
    kinds = signature(a.dtype).args

    def generate(context, builder, _, arguments):
        function = context.call_conv.get_function_type(types.none, kinds)
        place = builder.inttoptr(arguments[0], function.as_pointer())
        context.call_conv.call_function(builder, place, types.none, kinds, arguments[1:])
        return context.get_dummy_value()

    return types.void(types.int64, *kinds), generate
