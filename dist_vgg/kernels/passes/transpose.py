"""Transposing a matrix, in squares of 16x16 numbers that stay in registers."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from dist_vgg.kernels.passes.lanes import I32, inline, place_of, repeat, store
from dist_vgg.kernels.passes.sizes import LANES


@inline
def transpose(w, start, row_step, rows, columns, out, out_start, out_step):
    """out[j, i] = w[i, j]; the rows of out are `out_step` apart."""
    whole_rows, whole_columns = rows // LANES * LANES, columns // LANES * LANES
    for i in range(0, whole_rows, LANES):
        for j in range(0, whole_columns, LANES):
            transpose_16(w, start + i * row_step + j, row_step,
                         out, out_start + j * out_step + i, out_step)  # fmt: skip
    for i in range(rows):
        for j in range(0 if i >= whole_rows else whole_columns, columns):
            store(out, out_start + j * out_step + i, 1, repeat(w, start + i * row_step + j))


@intrinsic
def transpose_16(
    typingctx: Any, source: Any, start: Any, step: Any, out: Any, out_start: Any, out_step: Any
) -> Any:
    """out[j, i] = source[i, j] for 16x16 numbers; the steps go from line to line.

    Four rounds exchange ever larger squares between lines: of 1, 2, 4 and 8 numbers.
    """
    i64 = types.int64

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source_, start_, step_, out_, out_start_, out_step_ = arguments
        vector = ir.VectorType(context.get_value_type(source.dtype), LANES)

        def line(kind: Any, array: Any, first: Any, step: Any, number: int) -> Any:
            offset = builder.add(first, builder.mul(step, ir.Constant(step.type, number)))
            return place_of(context, builder, kind, array, offset, vector)

        lines = []
        for i in range(LANES):
            lines.append(builder.load(line(source, source_, start_, step_, i)))
            lines[i].align = source.dtype.bitwidth // 8
        for size in (1, 2, 4, 8):
            first = [j if not j & size else LANES + (j ^ size) for j in range(LANES)]
            second = [j | size if not j & size else LANES + j for j in range(LANES)]
            masks = [ir.Constant(ir.VectorType(I32, LANES), picks) for picks in (first, second)]
            for i in range(LANES):
                if not i & size:
                    pair = lines[i], lines[i | size]
                    lines[i], lines[i | size] = (builder.shuffle_vector(*pair, m) for m in masks)
        for i in range(LANES):
            stored = builder.store(lines[i], line(out, out_, out_start_, out_step_, i))
            stored.align = source.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(source, i64, i64, out, i64, i64), generate
