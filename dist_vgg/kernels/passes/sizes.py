"""Sizes of what the passes work on: of panels, chains and blocks.

They are here, without Numba, for those who make the arrays.
"""

import os
from contextlib import suppress

from llvmlite import binding

LANES = 16  # numbers of a vector
PLACES = 36  # of a tile of Winograd's convolution
DEPTH = 128  # of a product's k at a time: that much of a panel stays in the first cache
CHAIN = 64  # about so many tiles make one chain of additions in a filter's gradient
FORWARD, BACKWARD = 32, 512  # terms of a chain in fully connected layers
SQUARES = 128  # lanes of a sum of squares
BLOCK = 128  # rows of a product on tiles, whose sums stay in the first cache
AT_ONCE = 64  # rows of a matrix that are rounded for a product on tiles
GROUP = 2**20  # about so many numbers of images make one stream of pixels
ROWS = 48  # of a fully connected layer's matrix at a time, in backward


def processor() -> tuple[str, str, str]:
    """What Numba compiles for: LLVM's triple, and names of the processor and its features."""
    name, features = map(os.environ.get, ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"))
    if features is None and name != "generic":
        with suppress(RuntimeError):  # LLVM doesn't know this machine
            features = binding.get_host_cpu_features().flatten()
    return binding.get_process_triple(), name or binding.get_host_cpu_name(), features or ""


# AVX-512 has 32 registers of 16 numbers; AVX2 has 16 of 8, and NEON 32 of 4. There, one vector of
# 16 is as wide as a tile may be.
WIDEST = 4 if "+avx512f" in processor()[2] else 1


def panel_width(columns: int) -> int:
    """Columns of each panel of a matrix that has so many: 16, 32 or 64."""
    vectors = WIDEST
    while vectors > 1 and LANES * vectors // 2 >= columns:
        vectors //= 2
    return LANES * vectors
