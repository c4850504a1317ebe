"""dist_vgg.train that prints each moment of its third step, and how much of it is updated.

That is the share of the rank's own parameters that differ from those at the step's beginning.
"""

from pathlib import Path
from typing import Any

import numpy as np

from dist_vgg import train
from dist_vgg.chaos import faults
from dist_vgg.chaos.hooks import install
from dist_vgg.chaos.injector import FaultInjector
from dist_vgg.chaos.plan import NARROW, draw
from dist_vgg.mpi.command import run_command

STEP = 3


class Recorder(FaultInjector):
    before: Any = None
    stale: Any = None  # what the copy that is to be written has of an earlier step

    def at(self, moment: str, saving: bool = False) -> None:
        assert self.trainer
        step, route = self.trainer.step + (not saving), self.trainer.route
        params = np.concatenate([route.params[lo:hi] for lo, hi in route.owned])
        if moment == "step":
            self.before = params
            other, *_ = route.replica._copies[1 - route.replica._now]
            self.stale = np.concatenate([other[lo:hi] for lo, hi in route.owned])
        if moment == faults.START_UP or step == STEP:
            updated = 0.0
            if self.before is not None:
                updated = np.mean((params != self.before) & (params != self.stale))
            # In one piece, since the thread of the exchange writes as well.
            print(f"at {moment} {step} {updated:.3f}\n", end="", flush=True)

    def note(self, what: str, **values: Any) -> None:
        pass


def main(argv: Any, comm: Any) -> int:
    plan = draw(0, 0, ["kill-forward"], NARROW)
    install(Recorder(Path("/"), plan))
    return train.main(argv, comm)


run_command("dist_vgg.train", main)
