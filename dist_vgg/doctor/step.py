"""The step to expect: a few steps of the real trainer on random images, and what the link takes.

With micro-batches of m images instead of those that were measured, computing takes as many times
longer as there are more images, and the exchange as there are more bytes: see traffic.py.
"""

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_vgg.base.errors import UserError
from dist_vgg.data.shards import hosted
from dist_vgg.doctor.findings import OK, WARNING, Finding, World, by_host
from dist_vgg.doctor.traffic import sent_bytes
from dist_vgg.mpi.collectives import allgather_text, allreduce_sum

if TYPE_CHECKING:
    from mpi4py import MPI

    from dist_vgg.network.sequential import Sequential

CHECK = "step"
STEPS, SECONDS = 3, 6.0  # at most, after one that warms up; and as long as they may take together
# Seconds of one exchange of all parameters, as a smaller one lets expect, beyond which no step is
# made. That one sends in smaller pieces, which take up to three times as long: at 1 Gbit/s 4 s are
# expected and 1.5 s are true. At 100 Mbit/s, where start and steps would take more than a minute,
# 13 s are expected.
SLOWEST = 8.0
# The share of a step that the link may take: a fourth. Twice the ranks then still train 1.5 times
# as fast as half of them.
SHARE = 0.25
DOUBLINGS = 9  # of the micro-batch, to find one with which the link takes less
WITH_OTHERS = ("waiting", "exchange")  # parts of a step, of the clock's


def facts(
    comm: "MPI.Intracomm",
    net: "Sequential",
    shards: int,
    kind: str,
    options: Mapping[str, Any],
    dense: float,
) -> dict[str, Any]:
    """The seconds of this rank in a step, by part, and the bytes that it sends; collective.

    On the route `kind`, where bringing whole gradients together takes about `dense` seconds.
    """
    from dist_vgg.bench.random_trainer import random_trainer, step_seconds

    sent, share = _sent(comm, net, shards, kind, options["micro_batch"])
    exchange = dense * share
    found: dict[str, Any] = dict(error="", seconds=0.0, others=0.0, images=0)
    if exchange > SLOWEST:
        return {**found, "error": f"the exchange alone takes about {exchange:.0f} s of a step"}
    try:
        trainer = random_trainer(comm, shards, options)
    except UserError as error:  # on all ranks alike
        return {**found, "error": str(error)}
    try:
        warm = step_seconds(trainer)
        of_rank_0 = np.array([max(1, min(STEPS, int(SECONDS / warm))) * (comm.rank == 0)])
        steps = int(allreduce_sum(comm, of_rank_0)[0])
        before, start = dict(trainer.totals.seconds), time.perf_counter()
        for _ in range(steps):
            trainer.train_step(follows=True)
        seconds = (time.perf_counter() - start) / steps
        totals = trainer.totals.seconds
        others = sum(totals[name] - before[name] for name in WITH_OTHERS) / steps
        trainer.train_step()  # the parameters of the last are still on their way
    finally:
        trainer.route.close()
    images = trainer.totals.images // trainer.step
    return dict(
        error="",
        seconds=seconds,
        others=others,
        images=images,
        network=f"VGG16 of 64x64x1, width {trainer.config.width:g}, {shards} shards x "
        f"{trainer.config.micro_batch} images",
        micro_batch=trainer.config.micro_batch,
        sent=sent,
    )


def _sent(
    comm: "MPI.Intracomm", net: "Sequential", shards: int, kind: str, micro_batch: int
) -> tuple[list[tuple[int, int]], float]:
    """Bytes that this node sends in a step, by micro-batch, and their share of whole gradients'.

    The node's first rank has them, the others 0. The share is the largest of all nodes.
    """
    from dist_vgg.exchange.nodes import Nodes
    from dist_vgg.training.setup import products_of

    hosting = [hosted(shards, comm.size, rank) for rank in range(comm.size)]
    count, nodes = net.parameter_count, Nodes(comm, alone=kind == "flat")
    try:
        sent = {
            m: sent_bytes(nodes, count, hosting, products_of(net, m, shards)) * nodes.is_leader
            for m in (micro_batch << k for k in range(DOUBLINGS))
        }
        whole = sent_bytes(nodes, count, hosting) * nodes.is_leader
    finally:
        nodes.close()
    share = sent[micro_batch] / whole if whole else 0.0
    largest = max(map(float, allgather_text(comm, str(share))))
    return [*sent.items()], largest or 1.0  # on one host nothing is sent, but all is added


def expected(world: World) -> dict[str, float]:
    """Seconds of a step, of its computing on the slowest rank, and of what the link takes."""
    seconds = max(rank[CHECK]["seconds"] for rank in world)
    # The rank that computes longest waits for nothing but the exchange.
    link = min(rank[CHECK]["others"] for rank in world)
    return dict(seconds=seconds, link=link, computing=seconds - link, sent=leaving(world)[0][1])


def leaving(world: World) -> list[tuple[int, int]]:
    """Bytes that leave a host in a step, that with the most, by micro-batch."""
    hosts = [[dict(rank[CHECK]["sent"]) for rank in ranks] for ranks in by_host(world).values()]
    return [(m, max(sum(sent[m] for sent in host) for host in hosts)) for m in hosts[0][0]]


def judge(world: World) -> Iterator[Finding]:
    """The step, and whether the link takes too much of it."""
    found = world[0][CHECK]
    if found["error"]:
        level = WARNING if found["error"].startswith("the exchange alone") else OK
        yield Finding(level, CHECK, f"not measured: {found['error']}")
        return
    step = expected(world)
    share = step["link"] / step["seconds"]
    rate = found["images"] / step["seconds"]
    words = f"{found['network']}: {step['seconds']:.2f} s, {rate:.1f} images/s"
    if len(by_host(world)) == 1:
        yield Finding(OK, CHECK, f"{words}; {share:.0%} of it is exchange")
        return
    sent = step["sent"] / 1e6
    words += f"; {round(sent, 1) or round(sent, 3):,} MB leave each host, for which the link takes "
    words += f"{share:.0%}"
    if share <= SHARE:
        yield Finding(OK, CHECK, words)
        return
    mend = "a faster link would help"
    for micro_batch, sent in leaving(world):
        computing = step["computing"] * micro_batch / found["micro_batch"]
        link = step["link"] * sent / max(1, step["sent"])
        if link <= SHARE * (computing + link):
            mend = (
                f"a faster link, or --micro-batch {micro_batch} (a larger batch: see the guide on "
                f"batch and rate), would make it {link / (computing + link):.0%} or less"
            )
            break
    yield Finding(WARNING, CHECK, words, mend)
