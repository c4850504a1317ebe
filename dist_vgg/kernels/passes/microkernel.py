"""The micro-kernel: a small tile of a product of matrices, whose sums never leave the registers.

                          b: a line for each k
                          |  16 lanes  |  16 lanes  | ... |
      a: a column       --+------------+------------+-----+
      for each k     a[0] | sum_0_0    | sum_0_1    |     |
                     a[1] | sum_1_0    | sum_1_1    |     |      c[i, :] = sum_i
                     ...  | ...                           |
                          +-------------------------------+

For each k the tile loads a line of b once, and multiplies it by one number of each row of a. In
NumPy:

    for k in range(count):
        total = fma(a[:, k, None], b[k], total)

So each number of c is one chain of fused multiply-adds over k, first to last. Its bits depend on
its row of a and its column of b, and on nothing else: not on the tile, the other rows, the
processor or the width of its vectors. Goto and van de Geijn, "Anatomy of high-performance
matrix multiplication", ACM TOMS 34 (2008), explain why a tile should fill the registers.

This is the only file in which code makes code: a register needs a name of its own, so the program
of a tile is written out here, and `print(program(2, 2))` shows one.
"""

from functools import cache
from typing import Any

from dist_vgg.kernels.passes import lanes

HEAD = "def tile(a, a0, a_row, a_k, a_panel, b, b0, b_k, b_panel, c, c0, c_row, count, panel, add):"


def program(rows: int, vectors: int) -> str:
    """The program of a tile of `rows` by `vectors` * 16 numbers.

    The matrices begin at a0, b0 and c0 of flat arrays, and a_row, a_k, b_k and c_row are the steps
    from row to row and from k to k, in numbers. After each `panel` of k, a and b go on a_panel and
    b_panel further: that is how a matrix is read that lies in panels. With `add` the sums are
    added to what c has.
    """
    r, v = range(rows), range(vectors)
    cells = [(i, j) for i in r for j in v]
    multiply = [
        [f"factor = repeat(a, ai + {i} * a_row)"]
        + [f"sum_{i}_{j} = fma(factor, line_{j}, sum_{i}_{j})" for j in v]
        for i in r
    ]
    return _lines(
        [HEAD],
        [f" sum_{i}_{j} = splat(a, 0.0)" for i, j in cells],
        [" while count > 0:", "  ai, bi = a0, b0", "  for _ in range(min(count, panel)):"],
        [f"   line_{j} = load(b, bi + {16 * j}, 16)" for j in v],
        [f"   {line}" for one in multiply for line in one],
        ["   ai, bi = ai + a_k, bi + b_k"],
        ["  count, a0, b0 = count - panel, a0 + a_panel, b0 + b_panel", " if add:"],
        [f"  sum_{i}_{j} = load(c, {_place(i, j)}, 16) + sum_{i}_{j}" for i, j in cells],
        [f" store(c, {_place(i, j)}, 16, sum_{i}_{j})" for i, j in cells],
    )


def _place(i: int, j: int) -> str:
    """Where a cell of the tile begins in c."""
    return f"c0 + {i} * c_row + {16 * j}"


def _lines(*groups: list[str]) -> str:
    return "\n".join(line for group in groups for line in group)


@cache
def tile(rows: int, vectors: int) -> Any:
    """The function of the program, to be called by compiled functions."""
    names = {name: getattr(lanes, name) for name in ("fma", "load", "repeat", "splat", "store")}
    exec(program(rows, vectors), names)
    return lanes.inline(names["tile"])
