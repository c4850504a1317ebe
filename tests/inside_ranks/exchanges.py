"""Exchanges on this job's ranks, and the plain sums that they are to agree with."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import numpy as np
from mpi4py import MPI

from dist_vgg.data.shards import hosted
from dist_vgg.exchange.factors import Products
from dist_vgg.exchange.partition import Partition
from dist_vgg.exchange.protocol import Exchange
from dist_vgg.exchange.route import Route
from dist_vgg.exchange.tree import fold
from dist_vgg.mpi.collectives import barrier
from dist_vgg.state.checksums import GRADIENT, PARAMETERS, Cells

comm = MPI.COMM_WORLD

COUNT = 70_001  # more than one bucket, and no multiple of anything
SHARDS = 11
RUN = f"tested-{os.getppid()}"  # which is mpirun's: other tests may be running
CELLS = Cells(COUNT, Partition(COUNT, 1).grain, [1001, 40_000])

Hosts = list[list[int]]  # the shards of each rank
CONTIGUOUS: Hosts = [list(hosted(SHARDS, comm.size, rank)) for rank in range(comm.size)]
ROUND_ROBIN: Hosts = [list(range(rank, SHARDS, comm.size)) for rank in range(comm.size)]

# How ranks may lie on nodes: the number of a rank's node.
NODES: dict[str, Callable[[int], int] | None] = {
    "flat": None,
    "one node": lambda rank: 0,
    "pairs": lambda rank: rank // 2,
    "cyclic": lambda rank: rank % 2,
    "uneven": lambda rank: int(rank > 0),
}


@contextmanager
def opened(
    kind: str,
    shards_of_rank: Hosts = CONTIGUOUS,
    state: Sequence[str] = (),
    standby: str = "",
    audited: bool = False,
    products: Products | None = None,
    together: int = 1,
) -> Iterator[Route]:
    cells = CELLS if audited else None
    given = (comm, COUNT, shards_of_rank, state, standby, cells)
    route = Route(*given, kind=kind, products=products, together=together)
    yield route
    route.close()


@cache
def gradient(step: int, shard: int) -> np.ndarray:
    """Numbers of very different size, so that another order of sums gives other bits."""
    rng = np.random.default_rng([step, shard])
    return (rng.standard_normal(COUNT) * 10.0 ** rng.integers(-4, 4, COUNT)).astype(np.float32)


@cache
def plain_sum(step: int) -> np.ndarray:
    sums = {(0, shard): gradient(step, shard).copy() for shard in range(SHARDS)}
    (total,) = fold(sums, SHARDS, lambda left, right: np.add(left, right, out=left)).values()
    return total


def compute(exchange: Exchange, number: int) -> None:
    """What comes before the sum: each shard's gradient."""
    for shard in exchange.local_shards:
        exchange.gradient()[:] = gradient(number, shard)
        exchange.add(shard)


def step(exchange: Exchange, number: int) -> None:
    """A step of gradient descent with momentum; of its audit, the part for the gradient."""
    compute(exchange, number)
    exchange.wait()
    exchange.reduce_scatter()
    exchange.check()
    barrier(comm)
    audit = exchange.audit
    old, old_momentum = exchange.params, exchange.state["momentum"]
    exchange.replica.swap()
    new, momentum = exchange.params, exchange.state["momentum"]
    for lo, hi in exchange.owned:
        if audit:
            audit.check(GRADIENT, exchange.total, lo, hi)
        new[lo:hi] = old[lo:hi] - exchange.total[lo:hi]
        momentum[lo:hi] = old_momentum[lo:hi] + exchange.total[lo:hi]
        if audit:
            audit.note(PARAMETERS, new, lo, hi)
            audit.note("momentum", momentum, lo, hi)
    exchange.all_gather()
