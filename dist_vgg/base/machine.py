"""What a rank asks of its machine before it computes, and the memory that it has used."""

import ctypes
import hashlib
import os
import platform
import resource
import struct
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # from glibc's malloc.h
# The system call sched_setattr, which the C library does not offer.
SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
MEND = (  # what to do where `facts` differ
    "other kernels round differently: set OPENBLAS_CORETYPE (Haswell, say) on every host, "
    "and install the same NumPy"
)
TIME_SLICE = 100_000_000  # nanoseconds; the longest that Linux grants


def settle(blas_threads: int) -> None:
    """Set BLAS threads, keep freed memory for the next array, and ask for long time slices.

    glibc gives large arrays back to the system as they are freed, and fresh ones then cost a
    page fault for each 4 KiB: 5 to 15% of a training step. A system without these calls is left
    as it is.
    """
    threadpool_limits(blas_threads, user_api="blas")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    _lengthen_time_slice()


def blas_kernels() -> list[str]:
    """The BLAS libraries in use and the kernels that each has chosen for this processor.

    Kernels decide how products round: "openblas 0.3.31 Haswell" and "... SkylakeX" differ.
    """
    return sorted(
        {
            f"{found['internal_api']} {found['version']} {found.get('architecture', '')}".rstrip()
            for found in threadpool_info()
            if found["user_api"] == "blas"
        }
    )


def numba_version() -> str:
    """The version of Numba that is installed, which isn't imported for this.

    From the name of the folder with its metadata, where that is the usual one: importlib.metadata
    takes as long to import as half of this program's own files do, and each rank starts with it.
    """
    found = find_spec("numba")
    beside = (
        Path(found.origin).parents[1].glob("numba-*.dist-info") if found and found.origin else ()
    )
    names = [path.name for path in beside]
    if len(names) == 1:
        return names[0].removeprefix("numba-").removesuffix(".dist-info")
    from importlib.metadata import version

    return version("numba")


def facts() -> dict[str, object]:
    """What decides the bits of a product on this machine, in words."""
    # Not every BLAS names its kernels, so a product shows how they round.
    numbers = np.random.Generator(np.random.Philox(0)).random((2, 96, 96), np.float32)
    digest = hashlib.sha256((numbers[0] @ numbers[1]).tobytes()).hexdigest()[:8]
    kernels = f"{', '.join(blas_kernels())} (a product {digest})"
    return {"the BLAS kernels": kernels, "the BLAS threads": blas_threads()}


def blas_threads() -> list[int]:
    """The number of threads that each BLAS library uses."""
    return sorted({i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"})


def _lengthen_time_slice() -> None:
    """Ask Linux for the longest time slice (6.12 and newer grant it, others change nothing).

    Where ranks share a core, each turn begins with the cache full of another's numbers. At
    8 ranks on 2 cores long turns make a step of micro-batch 16 about 6% faster.
    """
    number = SCHED_SETATTR.get(platform.machine())
    # A rank that was started with `nice`, `chrt` or the like keeps what it was given.
    if number and platform.system() == "Linux" and os.sched_getscheduler(0) == os.SCHED_OTHER:
        nice = os.getpriority(os.PRIO_PROCESS, 0)
        # struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period
        attributes = struct.pack("=IIQiIQQQ", 48, os.SCHED_OTHER, 0, nice, 0, TIME_SLICE, 0, 0)
        ctypes.CDLL(None).syscall(number, 0, attributes, 0)


def physical_memory() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def memory() -> tuple[int, int]:
    """The peak of this process in bytes, and the bytes that it now shares with others."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    peak, shared = (int(fields[name].split()[0]) << 10 for name in ("VmHWM", "RssShmem"))
    return peak, shared
