"""The peak of bfloat16: the best rate at which tiles, real or emulated, multiply matrices.

Importing this file needs llvmlite.
"""

import numpy as np

from dist_vgg.base.random import generator
from dist_vgg.bench.readings import per_second
from dist_vgg.kernels import bfloat16
from dist_vgg.kernels.bfloat16_format import narrowed

ROWS, COLUMNS, INNER = 256, 512, 512  # of matrices that stay in the second cache


def measure(seconds: float) -> float:
    """GFLOP/s of one core, measured for about so many seconds."""
    draw = generator(0, "bench/tile products")
    a, b = (narrowed(draw.random(shape, np.float32)) for shape in ((ROWS, INNER), (COLUMNS, INNER)))
    c = np.empty((COLUMNS // 32, ROWS, 32), np.float32)
    places = [array.ctypes.data for array in (a, b, c)]

    def multiply() -> None:
        for panel in range(COLUMNS // 32):
            bfloat16.product(
                places[0], 0, INNER, 0, 1, INNER // 32,
                places[1], panel * 32 * INNER, places[2], panel * ROWS * 32, 32, ROWS, False,
            )  # fmt: skip

    return 2 * ROWS * COLUMNS * INNER * per_second(seconds, multiply) / 1e9
