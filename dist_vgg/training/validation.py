"""Scoring held-out images while training, keeping the best weights, and stopping early."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_vgg.base.errors import Diverged
from dist_vgg.data.samples import Samples
from dist_vgg.data.set_info import SetInfo
from dist_vgg.network.sequential import Sequential
from dist_vgg.training.divergence import exploded
from dist_vgg.training.scoring import score

if TYPE_CHECKING:
    from mpi4py import MPI


@dataclass
class Best:
    """The best score on held-out images so far. A checkpoint holds it."""

    accuracy: float = 0.0
    loss: float = 0.0
    step: int = 0
    since: int = 0  # scores that were no better

    def update(self, accuracy: float, loss: float, step: int) -> bool:
        """Take a score; whether it is better: more right, or as many with a lower loss."""
        better = not self.step or (accuracy, -loss) > (self.accuracy, -self.loss)
        if better:
            self.accuracy, self.loss, self.step, self.since = accuracy, loss, step, 0
        else:
            self.since += 1
        return better


class Validation:
    """Scores of the held-out images, and whether they still improve."""

    def __init__(self, info: SetInfo, held_out: Mapping[int, Samples], patience: int) -> None:
        """`held_out` has the shards that this rank hosts. With `patience` 0 nothing ends early."""
        self.best = Best()
        self._info, self._held_out, self._patience = info, held_out, patience

    @property
    def out_of_patience(self) -> bool:
        """Whether the last `patience` scores were no better than the best."""
        return bool(self._patience) and self.best.since >= self._patience

    def score(
        self,
        net: Sequential,
        models: Mapping[str, np.ndarray],
        step: int,
        comm: "MPI.Intracomm",
        done: Callable[[int], object],
    ) -> tuple[dict[str, Any], np.ndarray | None]:
        """Score each model, parameters by the prefix of its keys; every rank gets the same.

        Returns what the record has of it, and the parameters of the last model where they are
        the best so far. Raises Diverged where a loss is not finite or has exploded.
        """
        info = self._info
        record: dict[str, Any] = {}
        for prefix, params in models.items():
            net.bind(params, params)  # there is no backward to write the second
            found = score(net, self._held_out, info.mean, info.std, info.classes, comm, done=done)
            if not np.isfinite(found.loss) or exploded(found.loss, 0, info.classes):
                raise Diverged(
                    f"step {step}: the loss of the held-out images is {found.loss:.3g}; lower "
                    "--lr, lengthen --warmup, or look closer with --debug"
                )
            record |= {f"{prefix}accuracy": found.accuracy, f"{prefix}loss": found.loss}
        # The last of them: the average, where there is one.
        better = self.best.update(found.accuracy, found.loss, step)
        return record, params if better else None
