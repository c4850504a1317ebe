"""The assembly of the product on AMX's tiles, for processors that have none, too."""

import numba

from dist_vgg.kernels.jit import ENTRY, OPTIONS
from dist_vgg.kernels.passes.amx_tiles import product


def text() -> str:
    """What LLVM makes of it for the processor that NUMBA_CPU_NAME and NUMBA_CPU_FEATURES name."""
    dispatcher = numba.njit(**OPTIONS, **ENTRY)(product.function)
    dispatcher.compile(product.types)
    (assembly,) = dispatcher.inspect_asm().values()
    return str(assembly)
