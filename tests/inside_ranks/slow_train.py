"""dist_vgg.train with slow steps, and each rank's pid in the run's folder; run under mpirun."""

import os
import time
from pathlib import Path
from typing import Any

from dist_vgg import train
from dist_vgg.mpi.command import run_command
from dist_vgg.training.trainer import Trainer

quick_step = Trainer.train_step


def slow_step(self: Trainer, follows: bool) -> dict[str, Any]:
    time.sleep(0.15)
    return quick_step(self, follows)


def note_pid(trainer: Trainer, folder: Path, *rest: Any) -> Any:
    (folder / "pids").mkdir(parents=True, exist_ok=True)
    (folder / "pids" / str(os.getpid())).touch()
    return usual_begin(trainer, folder, *rest)


usual_begin = train.begin
Trainer.train_step = slow_step  # type: ignore[method-assign]
train.begin = note_pid
run_command("dist_vgg.train", train.main)
