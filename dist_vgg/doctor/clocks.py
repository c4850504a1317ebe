"""Clocks: whether all hosts have the same time, by which people compare logs and files."""

import statistics
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dist_vgg.doctor.findings import OK, WARNING, Finding, World, by_host
from dist_vgg.mpi.collectives import barrier

if TYPE_CHECKING:
    from mpi4py import MPI

CHECK = "clocks"
ROUNDS = 5
# Seconds. A host that follows a time server is off by milliseconds, and ranks leave a barrier
# within milliseconds, on crowded cores within some tenths of a second.
DIFFERENT = 2.0


def facts(comm: "MPI.Intracomm") -> dict[str, Any]:
    """The time of this host after each of several barriers; collective."""
    times = []
    for _ in range(ROUNDS):
        barrier(comm)
        times.append(time.time())
    return dict(times=times)


def offset(world: World, rank: int) -> float:
    """Seconds by which a rank's clock is ahead of rank 0's."""
    pairs = zip(world[rank][CHECK]["times"], world[0][CHECK]["times"], strict=True)
    return statistics.median(mine - first for mine, first in pairs)


def judge(world: World) -> Iterator[Finding]:
    """Hosts whose clock differs from that of rank 0's host."""
    first, wrong, largest = world[0]["host"], False, 0.0
    for host, ranks in by_host(world).items():
        ahead = min((offset(world, r["rank"]) for r in ranks), key=abs)
        largest = max(largest, abs(ahead))
        if abs(ahead) > DIFFERENT:
            wrong = True
            which = "ahead of" if ahead > 0 else "behind"
            yield Finding(
                WARNING, CHECK, f"{host} is {abs(ahead):,.0f} s {which} {first}",
                "training does without; start a time server's client (chrony) there",
            )  # fmt: skip
    if len(by_host(world)) == 1:
        yield Finding(OK, CHECK, "one host, and so one clock")
    elif not wrong:
        yield Finding(OK, CHECK, f"within {max(largest, 0.01):.2f} s of each other")
