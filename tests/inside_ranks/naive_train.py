"""dist_vgg.train with the naive exchange in place of the routes; run under mpirun."""

from typing import Any

from dist_vgg import train
from dist_vgg.exchange.naive import Naive
from dist_vgg.mpi.command import run_command
from dist_vgg.training.trainer import Trainer


def trainer(*arguments: Any, **options: Any) -> Trainer:
    return Trainer(*arguments, **options, exchange=Naive)


train.Trainer = trainer  # type: ignore[assignment, misc]
run_command("dist_vgg.train", train.main)
