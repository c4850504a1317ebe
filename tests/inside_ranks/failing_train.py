"""dist_vgg.train that fails on the highest rank but one in its second step; run under mpirun."""

from typing import Any

from dist_vgg import train
from dist_vgg.mpi.command import run_command
from dist_vgg.training.trainer import Trainer

good_step = Trainer.train_step


def bad_step(self: Trainer, follows: bool) -> dict[str, Any]:
    if self.step == 1 and self.comm.rank == max(0, self.comm.size - 2):
        raise ZeroDivisionError("made to fail")
    return good_step(self, follows)


Trainer.train_step = bad_step  # type: ignore[method-assign]
run_command("dist_vgg.train", train.main)
