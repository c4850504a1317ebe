"""The records of steps and epochs in metrics.jsonl, and the totals of a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_vgg.base import machine
from dist_vgg.mpi.collectives import allreduce_sum
from dist_vgg.network.sequential import Sequential
from dist_vgg.runs.clock import SPANS
from dist_vgg.state.checksums import GRADIENT, PARAMETERS, Audit

if TYPE_CHECKING:
    from mpi4py import MPI

    from dist_vgg.exchange.protocol import Exchange


@dataclass
class EpochSums:
    """What the steps of an unfinished epoch add up to. A checkpoint holds it."""

    loss: float = 0.0
    correct: int = 0
    seen: int = 0  # samples
    seconds: float = 0.0

    def add(self, loss: float, correct: int, samples: int, seconds: float) -> None:
        """Count a step."""
        self.loss += loss
        self.correct += correct
        self.seen += samples
        self.seconds += seconds

    def record(self) -> dict[str, Any]:
        """The epoch's part of its record: means, and the rate."""
        return dict(
            loss=self.loss / self.seen,
            accuracy=self.correct / self.seen,
            images_per_s=self.seen / self.seconds,
            seconds=self.seconds,
        )


@dataclass
class Totals:
    """What this process has done since it started."""

    images: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SPANS, 0.0))

    def add(self, images: int, spent: Mapping[str, float]) -> None:
        """Count a step of so many images, and where this rank spent its time."""
        self.images += images
        for name, value in spent.items():
            self.seconds[name] += value

    def mean_seconds(self, comm: "MPI.Intracomm") -> dict[str, float]:
        """Seconds in each part of the steps, the mean over the ranks."""
        sums = allreduce_sum(comm, np.array(list(self.seconds.values())))
        return dict(zip(SPANS, (sums / comm.size).tolist(), strict=True))


def digests(audit: Audit | None, net: Sequential, rank: int) -> dict[str, Any]:
    """Checksums of a step, by which `replay` sees whether, and where, another differs.

    Rank 0 alone records them.
    """
    if audit is None or rank:
        return {}
    layers = net.layer_starts()
    by_layer = {name: audit.by_layer(name, layers) for name in (GRADIENT, PARAMETERS)}
    return dict(digest=audit.digest(PARAMETERS), layers=by_layer)


def speed(samples: int, spent: Mapping[str, float]) -> dict[str, Any]:
    """The rate of a step, and the seconds that this rank spent on each of its parts."""
    return dict(
        images_per_s=samples / sum(spent.values()),
        seconds={name: round(value, 6) for name, value in spent.items()},
    )


def peak_memory(comm: "MPI.Intracomm", route: "Exchange") -> tuple[float, float]:
    """Peak memory in GiB: of the largest rank, and of all; what a node shares counts once."""
    peak, shared = machine.memory()
    parts = np.zeros((comm.size, 2))
    # Of all that a node shares a rank has touched only some; MPI shares something, too.
    of_node = route.is_leader * max(shared, route.shared_bytes)
    parts[comm.rank] = peak, peak - shared + of_node
    peaks, own = allreduce_sum(comm, parts).T / 2**30
    return float(peaks.max()), float(own.sum())
