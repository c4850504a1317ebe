"""The peak: the best rate at which cores multiply large matrices."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_vgg.base.random import generator
from dist_vgg.bench.readings import per_second
from dist_vgg.mpi.collectives import allreduce_sum, barrier

if TYPE_CHECKING:
    from mpi4py import MPI


def measure(
    comm: "MPI.Intracomm", sizes: Sequence[int], seconds: float, tiles: bool = False
) -> dict[str, Any]:
    """The best rate of all sizes, in GFLOP/s of all ranks together while all multiply at once.

    With `tiles` also that of bfloat16.
    """
    rates = []
    for size in sizes:
        a, b, out = generator(0, "bench/products").random((3, size, size), np.float32)
        np.matmul(a, b, out=out)
        barrier(comm)
        rate = np.zeros(comm.size)
        rate[comm.rank] = per_second(seconds, np.matmul, a, b, out)
        rates.append(2 * size**3 * float(allreduce_sum(comm, rate).sum()) / 1e9)
    found = dict(gflops=max(rates))
    if tiles:
        from dist_vgg.bench import tile_products  # which needs llvmlite

        barrier(comm)
        rate = np.zeros(comm.size)
        rate[comm.rank] = tile_products.measure(seconds)
        found["tile_gflops"] = float(allreduce_sum(comm, rate).sum())
    return found
