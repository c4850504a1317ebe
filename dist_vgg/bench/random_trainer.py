"""The real trainer on random images: what benchmarks of a step measure.

This is the only file of the benchmarks that builds a trainer or reaches into one.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_vgg.base.random import generator
from dist_vgg.data.samples import Samples
from dist_vgg.data.set_info import SetInfo
from dist_vgg.data.shards import hosted
from dist_vgg.mpi.collectives import barrier
from dist_vgg.runs.config import TrainConfig
from dist_vgg.training.checkpointing import keep_standby
from dist_vgg.training.trainer import Trainer

if TYPE_CHECKING:
    from mpi4py import MPI

MEAN, STD = (127.5,), (73.9,)  # of pixels that are uniformly random


def random_trainer(
    comm: "MPI.Intracomm", shards: int, options: Mapping[str, Any], standby: str = ""
) -> Trainer:
    """A trainer before its first step, as Trainer describes it."""
    config = TrainConfig(**options, epochs=1 << 30, schedule="constant")
    each = 4 * config.micro_batch
    info = SetInfo(
        source="random",
        request="{}",
        shards=shards,
        size=64,
        channels=1,
        classes=10,
        mean=MEAN,
        std=STD,
        zoom="none",
        seed=0,
        train_count=shards * each,
        test_count=0,
        digest="",
    )
    local = {i: random_samples(i, each) for i in hosted(shards, comm.size, comm.rank)}
    trainer = Trainer(config, info, local, comm, standby)
    trainer.saves.keep = lambda: keep_standby(trainer, Path())
    trainer.start()
    return trainer


def random_samples(shard: int, count: int) -> Samples:
    """So many random images and labels, the same ones for a shard each time."""
    rng = generator(0, "bench/images", shard)
    pixels = rng.integers(0, 256, (count, 64, 64, 1), np.uint8)
    return Samples(pixels, rng.integers(0, 10, count, np.uint8), shard * count + np.arange(count))


def step_seconds(trainer: Trainer) -> float:
    """Seconds that a step takes, with keeping it in memory where the trainer does that."""
    barrier(trainer.comm)
    start = time.perf_counter()
    trainer.train_step()
    trainer.saves.keep()
    barrier(trainer.comm)
    return time.perf_counter() - start


def skip_computation(trainer: Trainer) -> None:
    """Leave forward and backward out of all further steps.

    Factors stay those of the last step, so there must have been one; other gradients are zeros.
    """
    from dist_vgg.exchange.route import Route

    def no_gradient(parts: Sequence[Samples], *rest: Any) -> tuple[list[float], list[int]]:
        return [0.0 for _ in parts], [0 for _ in parts]

    trainer.micro_batches.gradient = no_gradient  # type: ignore[method-assign, assignment]
    assert isinstance(trainer.route, Route)
    for vector in trainer.route.memory.mine:
        # Else each step would add the last one's sums up again, and they would grow.
        vector[: trainer.route.partition.tail] = 0


def touch_gradients(trainer: Trainer) -> None:
    """Exchange gradients as a step does, so that memory for all their vectors is taken."""
    route = trainer.route
    # Vectors of a micro-batch that has been added to its neighbour's are used again.
    for branch in route.branches:
        route.gradient()[: route.partition.tail] = 0
        route.add(*branch)
    route.reduce_scatter()


def touch_state(trainer: Trainer) -> None:
    """Write zeros to the optimizer's state, so that memory for it is taken."""
    for lo, hi in trainer.route.owned:
        for vector in trainer.route.state.values():
            vector[lo:hi] = 0
