"""The exchange: sums that are right to the bit, and how long they take by size."""

import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_vgg.base.errors import UserError
from dist_vgg.base.random import generator
from dist_vgg.base.table import table
from dist_vgg.bench.exchange import RouteAllreduce
from dist_vgg.data.shards import hosted
from dist_vgg.doctor.findings import FAULT, OK, WARNING, Finding, World, by_host
from dist_vgg.mpi.collectives import allreduce_sum

if TYPE_CHECKING:
    from mpi4py import MPI

CHECK = "exchange"
SIZES = (1 << 8, 1 << 14, 1 << 18, 1 << 22)  # numbers: 1 KiB to 16 MiB
READINGS = 3, 9  # of each size, after one that warms up; of the smallest, which the system disturbs
PATIENCE = 2.0  # seconds of one reading, beyond which no larger size is tried
TREE = 1 << 16  # numbers that are added along the tree
# Gbit/s that leave a host, below which the link is slower than it should be, or is one of 100
# Mbit/s. One of 1 Gbit/s gives 0.3 to 0.9 with pieces as small as these.
SLOW = 0.15
MEND = "memory, a network card or its driver is faulty: run without a host at a time to find which"


def facts(comm: "MPI.Intracomm", kind: str, shards: int) -> dict[str, Any]:
    """Whether sums are right on a route, and the seconds that they take; collective."""
    found: dict[str, Any] = dict(kind=kind, wrong="", seconds={})
    try:
        for count in SIZES if comm.size > 1 else ():
            seconds = _seconds(comm, kind, count)
            found["seconds"][4 * count] = seconds
            if 16 * seconds > PATIENCE:
                break
    except (RuntimeError, UserError) as error:  # on all ranks alike
        found["wrong"] = str(error)
        return found
    differing = np.zeros((2, comm.size), np.int64)
    differing[:, comm.rank] = differs_from_tree(comm, kind, shards)
    added, received = (np.flatnonzero(of_all).tolist() for of_all in allreduce_sum(comm, differing))
    if added:
        found["wrong"] = f"what rank {added[0]} adds has other bits than the tree's sum"
    elif received:
        found["wrong"] = f"what rank {received[0]} gets from others has other bits than they have"
    return found


def _seconds(comm: "MPI.Intracomm", kind: str, count: int) -> float:
    """The seconds of one sum of whole numbers that are brought to all ranks, and checked."""
    way = RouteAllreduce(comm, (np.arange(count) % 1021).astype(np.float32), kind)
    try:
        readings = READINGS[count == SIZES[0]]
        return statistics.median([way.seconds(turn) for turn in range(1 + readings)][1:])
    finally:
        way.close()


def differs_from_tree(comm: "MPI.Intracomm", kind: str, shards: int) -> tuple[bool, bool]:
    """Whether the sum differs from the tree's, which this rank computes alone, in a bit.

    First where this rank adds, then in the whole vector that it gets.
    """
    from dist_vgg.exchange.route import Route
    from dist_vgg.exchange.tree import sum_along_tree

    hosting = [hosted(shards, comm.size, rank) for rank in range(comm.size)]
    numbers = [
        generator(0, "doctor/tree", i).standard_normal(TREE, np.float32) for i in range(shards)
    ]
    route = Route(comm, TREE, hosting, kind=kind)
    for branch in route.branches:
        route.gradient()[:] = numbers[branch[0]]
        route.add(*branch)
    route.wait()
    route.reduce_scatter()
    alone = sum_along_tree({(0, i): vector for i, vector in enumerate(numbers)}, shards)
    added = False
    for lo, hi in route.owned:
        added |= route.total[lo:hi].tobytes() != alone[lo:hi].tobytes()
        route.params[lo:hi] = route.total[lo:hi]
    route.all_gather()
    received = route.params.tobytes() != alone.tobytes()
    route.close()
    return added, received


def seconds_of(world: World, size: int) -> float:
    """Seconds of a sum of so many bytes, as the largest that was measured lets expect."""
    measured = {int(n): seconds for n, seconds in world[0][CHECK]["seconds"].items()}
    if not measured:
        return 0.0
    largest = max(measured)
    return float(measured[largest] * max(1.0, size / largest))


def leaving(world: World, size: int, seconds: float) -> float:
    """Gbit/s that leave each host in both halves of a sum; 0 for one host."""
    hosts = len(by_host(world))
    return 2 * (hosts - 1) / hosts * 8e-9 * size / max(seconds, 1e-9)


def judge(world: World) -> Iterator[Finding]:
    """Sums that are wrong, and a link that is slow."""
    found = world[0][CHECK]
    if found["wrong"]:
        yield Finding(FAULT, CHECK, f"the sum over ranks is wrong: {found['wrong']}", MEND)
        return
    if not found["seconds"]:
        yield Finding(OK, CHECK, "one rank; the order of its sums is the tree's")
        return
    size, seconds = max((int(n), s) for n, s in found["seconds"].items())
    smallest, latency = min((int(n), s) for n, s in found["seconds"].items())
    words = f"sums have the tree's bits, route {found['kind']}; one of {smallest >> 10} KiB takes "
    words += f"{latency * 1e3:.1f} ms"
    speed = leaving(world, size, seconds)
    if not speed:
        words += f", larger ones {size / 1e9 / seconds:.1f} GB/s"
        yield Finding(OK, CHECK, words)
        return
    words += f", {speed:.2f} Gbit/s leave each host"
    if speed < SLOW:
        mend = "use the faster network if there is one (see network), and cores that no others use"
        yield Finding(WARNING, CHECK, words, mend)
    else:
        yield Finding(OK, CHECK, words)


def sizes_table(world: World) -> str:
    """The seconds by size; "" where nothing was measured."""
    found = world[0][CHECK]["seconds"]
    rows = [
        [f"{int(n) / 2**10:,.0f} KiB", f"{1e3 * s:.2f}", f"{int(n) / 1e9 / s:.2f}"]
        for n, s in found.items()
    ]
    return table(("sum of", "ms", "GB/s"), rows) if rows else ""
