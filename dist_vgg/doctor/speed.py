"""Speed: how fast each rank multiplies alone, and how fast all do at once."""

import statistics
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_vgg.base.random import generator
from dist_vgg.doctor.cores import usable
from dist_vgg.doctor.findings import OK, WARNING, Facts, Finding, World, by_host, ranks_words
from dist_vgg.mpi.collectives import barrier

if TYPE_CHECKING:
    from mpi4py import MPI

CHECK = "speed"
SIDE = 512  # of the matrices; a product takes some milliseconds, less than a time slice
GFLOP = 2e-9 * SIDE**3  # of a product
# Seconds of products alone: of a rank, and of all turns together. The longer, the surer it is that
# some product was not disturbed.
ALONE, TURNS = 0.4, 3.0
TOGETHER = 0.3  # of as many products as a rank alone makes in this time
# A rank below this share of the median holds all others up. Equal processors differ by a few
# percent in their best product; one that is slowed 1.2 times has 83%.
SLOW = 0.85
# The share of its own rate that a rank keeps as all compute. Hyper-threads and the clock's fall
# under load leave 55% and more; where others compute on the same cores it is 50% or less.
CROWDED = 0.5


def facts(comm: "MPI.Intracomm", turn: int, turns: int) -> dict[str, Any]:
    """GFLOP/s of products, alone on the host in its turn of so many, and at once; collective."""
    a, b, out = generator(0, "doctor/products").random((3, SIDE, SIDE), np.float32)
    np.matmul(a, b, out=out)
    alone = 0.0
    for now in range(turns):
        barrier(comm)
        if now == turn:
            alone = _best(min(ALONE, TURNS / turns), a, b, out)
    count = max(1, round(TOGETHER * alone / GFLOP))
    barrier(comm)
    start = time.perf_counter()
    for _ in range(count):
        np.matmul(a, b, out=out)
    own = time.perf_counter() - start
    barrier(comm)  # where ranks share a core, those that come last have it for themselves
    work = count * GFLOP
    return dict(alone=alone, together=work / own, work=work, all=time.perf_counter() - start)


def _best(seconds: float, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> float:
    """GFLOP/s of the best of many products, which is hardly ever interrupted."""
    best, start = float("inf"), time.perf_counter()
    while best == float("inf") or time.perf_counter() - start < seconds:
        before = time.perf_counter()
        np.matmul(a, b, out=out)
        best = min(best, time.perf_counter() - before)
    return GFLOP / best


def at_once(ranks: World) -> float:
    """GFLOP/s of ranks together, while all compute."""
    return sum(r[CHECK]["work"] for r in ranks) / max(r[CHECK]["all"] for r in ranks)


def _of_cores(rank: Facts, ranks: World) -> float:
    """GFLOP/s of a rank: the best of all on this host that have the same cores.

    What differs between those is by chance.
    """
    bound = rank["cores"]["bound"]
    return max(float(r[CHECK]["alone"]) for r in ranks if r["cores"]["bound"] == bound)


def judge(world: World) -> Iterator[Finding]:
    """Ranks and hosts that are slower than the others, and hosts on which others compute."""
    hosts = by_host(world)
    median = statistics.median_high(rank[CHECK]["alone"] for rank in world)
    wrong = False
    for host, ranks in hosts.items():
        slow = [rank for rank in ranks if _of_cores(rank, ranks) < SLOW * median]
        kept = statistics.median(r[CHECK]["together"] / r[CHECK]["alone"] for r in ranks)
        if slow:
            wrong = True
            rate = min(_of_cores(rank, ranks) for rank in slow)
            who = ranks_words([rank["rank"] for rank in slow])
            yield Finding(
                WARNING, CHECK, f"{who} on {host} multiply at {rate:.0f} GFLOP/s, "
                f"{rate / median:.0%} of the median; all others wait for them",
                "leave the host out, or look at its clock rate, cooling and other programs",
            )  # fmt: skip
        elif kept < CROWDED and len(ranks) <= usable(ranks):
            wrong = True
            load = ranks[0]["cores"]["load"]
            yield Finding(
                WARNING, CHECK, f"ranks on {host} keep {kept:.0%} of their speed as all compute "
                f"(load {load:g} before): others use its cores", "wait for them, or ask for whole "
                "hosts (Slurm: --exclusive)",
            )  # fmt: skip
    if not wrong:
        total = at_once(world)
        yield Finding(
            OK, CHECK, f"{median:.0f} GFLOP/s of a rank alone, {total:.0f} of all at once"
        )
