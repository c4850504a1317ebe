"""Products of bfloat16 matrices in tiles, defined once for real tiles and emulated ones.

                                     b: two tiles for 32 of k
                                     | 16 columns | 16 columns |
      a: two tiles for 32 of k     --+------------+------------+
      16 rows | 32 numbers           | sums       | sums       |
      16 rows | 32 numbers           | sums       | sums       |
                                   --+------------+------------+

One tile product takes 32 of k, in 16 pairs. For each sum it adds the products of the even members
in one chain of fused multiply-adds from zero, those of the odd members in another, and

    sum = sum + (even + odd)

each rounded to float32: so Intel's manual defines the instruction TDPBF16PS. The product of two
bfloat16 is exact in float32. So the bits of a sum depend on its row of a and its column of b, and
on nothing else: not on other rows, blocks or the processor.

`define` makes the product of four operations on blocks of 32x32 sums; `amx_tiles` and
`emulated_tiles` have them.
"""

from typing import Any

from numba import types
from numba.extending import intrinsic

from dist_vgg.kernels.jit import Marked, jit
from dist_vgg.kernels.passes.products import call_at

WHOLE = types.int64
HALVES, NUMBERS = types.CPointer(types.uint16), types.CPointer(types.float32)
SIGNATURE = (HALVES, *5 * [WHOLE], HALVES, WHOLE, NUMBERS, *3 * [WHOLE], types.boolean)


def define(begin: Any, clear: Any, fetch: Any, step: Any, put: Any, end: Any) -> Marked:
    """The product by these operations: what it computes is that of `multiply_tiles`."""

    @jit(*SIGNATURE)
    def product(a, a0, a_row, a_line, lines, steps, b, b0, c, c0, c_row, rows, add):
        begin()
        for row in range(0, rows, 32):
            block, place = c0 + row * c_row, b0
            if add:
                fetch(c, block, c_row)
            else:
                clear(c, block, c_row)
            for line in range(lines):
                start = a0 + row * a_row + line * a_line
                for k in range(steps):
                    step(a, start + 32 * k, a_row, b, place, c, block, c_row)
                    place += 1024
            put(c, block, c_row)
        end()

    return product


@intrinsic
def multiply_tiles(
    typingctx, at, a, a0, a_row, a_line, lines, steps, b, b0, c, c0, c_row, rows, add
):
    """c = a @ b for 32 columns of b; with `add`, c += a @ b.

    The arrays are flat, and a0, b0 and c0 are where the matrices begin. A row of a is `lines` times
    32 * `steps` numbers, `a_line` apart; `a_row` and `c_row` are the steps from row to row. b is as
    `into_pairs` writes it. Rows are computed by 32: a has to have readable memory for all of them,
    with numbers where b has zeros, and c room. `at` is the address of the function that `define`
    makes, so that all who call it are compiled once, whoever computes.
    """
    given = (a, a0, a_row, a_line, lines, steps, b, b0, c, c0, c_row, rows, add)

    def generate(context, builder, _, arguments):
        return call_at(context, builder, SIGNATURE, given, arguments)

    return types.void(types.int64, *given), generate
