"""Whether this process may use the tiles of AMX, for products of bfloat16.

Linux lets a process use them once it has asked; a container's filter of system calls may refuse it.
"""

import ctypes
import os
import sys
from functools import cache

from dist_vgg.kernels.passes.sizes import processor

FORBID = "DIST_VGG_AMX"  # "off" in the environment: tests and comparisons use no tiles
ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA = 158, 0x1023, 18  # asm/prctl.h, asm/unistd_64.h
NEEDED = ("+amx-tile", "+amx-bf16")


@cache
def why_not() -> str:
    """Why tiles can't be used here, in words; "" where this process may use them from now on."""
    if os.environ.get(FORBID) == "off":
        return f"{FORBID} is off"
    features = processor()[2].split(",")
    if not all(feature in features for feature in NEEDED):
        return "this processor has no AMX"
    if sys.platform != "linux":
        return "only Linux lets a process use AMX here"
    if ctypes.CDLL(None).syscall(ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA):
        return "the system doesn't permit AMX"
    return ""
