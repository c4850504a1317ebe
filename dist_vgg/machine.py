"""What a rank asks of its machine before it computes, and what it has taken afterwards."""

import ctypes
import resource
from pathlib import Path

from threadpoolctl import threadpool_limits

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h
LARGEST_MMAP_THRESHOLD = 32 << 20  # glibc takes no more


def settle(blas_threads: int) -> None:
    """Set BLAS threads, and have freed memory kept for the next array.

    glibc gives large arrays back to the system as they are freed, and fresh ones then cost a
    page fault for each 4 KiB: 5 to 15% of a training step. Elsewhere nothing is changed.
    """
    threadpool_limits(blas_threads, user_api="blas")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        mallopt(M_TRIM_THRESHOLD, 1 << 30)


def memory() -> tuple[int, int]:
    """Bytes that this process has held at most, and those that it now shares with others."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    peak, shared = (int(fields[name].split()[0]) << 10 for name in ("VmHWM", "RssShmem"))
    return peak, shared
