"""What a rank asks of its machine before it computes: BLAS threads, and kept memory."""

import ctypes

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
