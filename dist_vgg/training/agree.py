"""What all ranks agree on in a step, brought together by one allreduce of a short array."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from dist_vgg.kernels.arithmetic import NUMPY, Arithmetic
from dist_vgg.mpi.collectives import allreduce_sum

if TYPE_CHECKING:
    from mpi4py import MPI


@dataclass(frozen=True)
class Agreement:
    """A step's sums over all shards, and what ranks ask for; the same on every rank."""

    loss: float = 0.0  # summed over the samples
    correct: int = 0  # samples
    norm: float = 0.0  # of the summed gradient, before it is clipped
    stop_signal: int = 0  # that a rank has received, or 0
    save: bool = False  # whether rank 0's clock says that a checkpoint is due
    times: np.ndarray = field(default_factory=lambda: np.zeros(0), compare=False)  # see RankClock

    @property
    def interrupts(self) -> bool:
        """Whether something is to be done before another step."""
        return bool(self.stop_signal or self.save)

    def is_finite(self) -> bool:
        """Whether neither loss nor norm is NaN or Inf."""
        return bool(np.isfinite([self.loss, self.norm]).all())


def agree(
    comm: "MPI.Intracomm",
    losses: np.ndarray,
    correct: np.ndarray,
    squares: np.ndarray,
    stop_signal: int,
    save: bool,
    arithmetic: Arithmetic = NUMPY,
    times: np.ndarray | None = None,
) -> Agreement:
    """Agree on a step: `losses` and `correct` are (shards,), `squares` (grains,), all float64.

    `times` has the figures of the step before, see RankClock.contribution.

    Each entry is zero but on the one rank that knows it, so the allreduce rounds nothing; only
    then are the entries added, in one order. The result is the same bits at any number of ranks.
    """
    signals, due = np.zeros(comm.size), np.zeros(1)
    signals[comm.rank] = stop_signal
    due[0] = save and comm.rank == 0
    parts = [losses, correct, squares, signals, due, np.zeros(0) if times is None else times]
    ends = np.cumsum([len(part) for part in parts])
    summed = allreduce_sum(comm, np.concatenate(parts))
    losses, correct, squares, signals, due, times = np.split(summed, ends[:-1])
    return Agreement(
        loss=float(arithmetic.total(losses)),
        correct=int(correct.sum()),
        norm=arithmetic.power(float(arithmetic.total(squares)), 0.5),
        stop_signal=int(signals.max()),
        save=bool(due[0]),
        times=times,
    )
