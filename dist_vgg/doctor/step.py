"""The step to expect: a few steps of the real trainer on random images, and what the link takes.

With micro-batches of m images instead of those that were measured, computing takes m times what
it takes for an image, and the exchange what it takes now: it doesn't depend on the images.
"""

import statistics
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_vgg.base.errors import UserError
from dist_vgg.doctor.findings import OK, WARNING, Finding, World, by_host
from dist_vgg.mpi.collectives import allreduce_sum

if TYPE_CHECKING:
    from mpi4py import MPI

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
WITH_OTHERS = ("waiting", "exchange")  # parts of a step, of the clock's


def facts(
    comm: "MPI.Intracomm", shards: int, options: Mapping[str, Any], exchange: float
) -> dict[str, Any]:
    """The seconds of this rank in a step, by part; collective.

    `exchange` are the seconds that bringing all gradients together will take about.
    """
    from dist_vgg.bench.random_trainer import random_trainer, step_seconds

    found: dict[str, Any] = dict(error="", seconds=0.0, others=0.0, images=0)
    if exchange > SLOWEST:
        return {**found, "error": f"the exchange alone takes about {exchange:.0f} s of a step"}
    try:
        trainer = random_trainer(comm, shards, options)
    except UserError as error:  # on all ranks alike
        return {**found, "error": str(error)}
    try:
        start, whole, others = time.perf_counter(), [], []
        for turn in range(1 + STEPS):
            before = dict(trainer.totals.seconds)
            seconds = step_seconds(trainer)
            spent = {name: value - before[name] for name, value in trainer.totals.seconds.items()}
            if turn:
                whole.append(seconds)
                others.append(sum(spent[name] for name in WITH_OTHERS))
            late = np.array([turn > 0 and time.perf_counter() - start > SECONDS], np.int64)
            if allreduce_sum(comm, late)[0]:
                break
    finally:
        trainer.route.close()
    images = trainer.totals.images // trainer.step
    return dict(
        error="",
        seconds=statistics.median(whole),
        others=statistics.median(others),
        images=images,
        network=f"VGG16 of 64x64x1, width {trainer.config.width:g}, {shards} shards x "
        f"{trainer.config.micro_batch} images",
        micro_batch=trainer.config.micro_batch,
    )


def expected(world: World) -> dict[str, float]:
    """Seconds of a step, of its computing on the slowest rank, and of what the link takes."""
    seconds = max(rank[CHECK]["seconds"] for rank in world)
    # The rank that computes longest waits for nothing but the exchange.
    link = min(rank[CHECK]["others"] for rank in world)
    return dict(seconds=seconds, link=link, computing=seconds - link)


def judge(world: World) -> Iterator[Finding]:
    """The step, and whether the link takes too much of it."""
    found = world[0][CHECK]
    if found["error"]:
        level = WARNING if found["error"].startswith("the exchange alone") else OK
        yield Finding(level, CHECK, f"not measured: {found['error']}")
        return
    step = expected(world)
    seconds, link = step["seconds"], step["link"]
    rate = found["images"] / seconds
    words = f"{found['network']}: {seconds:.2f} s, {rate:.1f} images/s"
    share = link / seconds
    if len(by_host(world)) == 1:
        yield Finding(OK, CHECK, f"{words}; {share:.0%} of it is exchange")
        return
    words += f"; the link takes {share:.0%} of it"
    if share <= SHARE:
        yield Finding(OK, CHECK, words)
        return
    per_image = step["computing"] / found["micro_batch"]
    enough = link * (1 - SHARE) / SHARE / per_image
    yield Finding(
        WARNING, CHECK, words,
        f"a faster link, or --micro-batch {enough:.0f} (a larger batch: see the guide on batch and "
        f"rate), would make it {SHARE:.0%}",
    )  # fmt: skip
