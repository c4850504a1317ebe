"""dist_vgg.train with the naive exchange in place of the routes; run under mpirun."""

from functools import partial

from dist_vgg import train
from dist_vgg.exchange.naive import Naive
from dist_vgg.mpi.command import run_command
from dist_vgg.training.trainer import Trainer

train.Trainer = partial(Trainer, exchange=Naive)  # type: ignore[assignment, misc]
run_command("dist_vgg.train", train.main)
