"""dist_vgg.train that something befalls once: `RANK STEP MOMENT FAULT [VECTOR]`, then options."""

import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from dist_vgg import train
from dist_vgg.base import files
from dist_vgg.base.errors import UserError
from dist_vgg.mpi import collectives
from dist_vgg.mpi.command import run_command
from dist_vgg.training import checkpointing
from dist_vgg.training.micro_batches import MicroBatches
from dist_vgg.training.trainer import Trainer
from dist_vgg.training.update import Update

RANK, STEP, MOMENT, FAULT, *VECTOR = sys.argv.pop(1).split()
MOMENTS: dict[str, tuple[Any, str]] = {
    "step": (Trainer, "train_step"),
    "forward": (MicroBatches, "gradient"),
    "reduce": (Trainer, "_agree"),
    "update": (Update, "__call__"),
    "share": (Trainer, "_record"),
    "digest": (Trainer, "finish_epoch"),
    "gather": (checkpointing, "gather"),
    "weights": (checkpointing, "write_weights"),
}
trainers: list[Trainer] = []  # of this process


def strike(trainer: Trainer) -> None:
    if FAULT == "kill":
        time.sleep(0.2)  # until the others have marked the step before as done
        os.kill(os.getpid(), signal.SIGKILL)
    elif FAULT == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif FAULT == "hang":
        time.sleep(1000)
    elif FAULT == "crawl":
        for _ in range(16):
            trainer.clock.mark("reading")
            time.sleep(0.25)
    elif FAULT == "block":
        (Path(sys.argv[sys.argv.index("--out") + 1]) / "best.h5").mkdir()
    elif FAULT == "creep":
        files.HASH_BYTES, files.progress = 10_000, slowly
    elif FAULT == "free":
        files.fsync = usual_fsync
    elif FAULT == "wait":
        collectives.wait(MPI.COMM_WORLD.Irecv(np.zeros(1), 0, 7))
    elif FAULT == "infinity":
        lo, hi = trainer.route.owned[0]
        largest = lo + int(np.abs(trainer.route.params[lo:hi]).argmax())
        trainer.route.params[largest] = np.inf
    elif FAULT == "flip" and VECTOR[0] in ("pixels", "labels", "ids"):
        samples = trainer.batches._shards[trainer.route.local_shards[0]]
        getattr(samples, VECTOR[0]).reshape(-1).view(np.uint8)[0] ^= 1 << 4
    elif FAULT == "flip":
        route = trainer.route
        vectors = {"parameters": route.params, "gradient": route.total, **route.state}
        vectors[VECTOR[0]].view(np.uint32)[route.owned[0][0] + 3] ^= 1 << 12


def struck(usual: Callable[..., Any]) -> Callable[..., Any]:
    def function(*arguments: Any, **options: Any) -> Any:
        if (trainers[0].comm.rank, trainers[0].step) == (int(RANK), int(STEP)):
            strike(trainers[0])
        return usual(*arguments, **options)

    return function


def begin(trainer: Trainer, *rest: Any) -> Any:
    trainers.append(trainer)
    return usual_begin(trainer, *rest)


def full(*arguments: Any) -> Any:
    checkpointing.save_checkpoint = usual_save
    path = arguments[0] / "step.h5"
    reason = os.strerror(errno.ENOSPC)
    raise UserError(f"can't write a checkpoint to {path}: {reason}")


def slowly() -> None:
    time.sleep(0.15)
    usual_tell()


def full_disk(path: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


usual_save, usual_fsync, usual_tell = checkpointing.save_checkpoint, files.fsync, files.progress
if FAULT == "free":
    files.fsync = full_disk
if FAULT == "full":
    checkpointing.save_checkpoint = full
elif MOMENT == "reduce" and FAULT == "flip":
    # Before the replica is checked; the others wait for this rank.
    usual_step = Trainer.train_step

    def train_step(self: Trainer, follows: bool) -> Any:
        if (self.comm.rank, self.step) == (int(RANK), int(STEP)):
            usual = self.route.reduce_scatter

            def reduce() -> None:
                usual()
                strike(self)

            self.route.reduce_scatter = reduce  # type: ignore[method-assign]
        return usual_step(self, follows)

    Trainer.train_step = train_step  # type: ignore[method-assign]
elif MOMENT == "resume":
    usual_resume = checkpointing.resume

    def resume(trainer: Trainer, checkpoint: Any, sums: Any = None) -> None:
        if trainer.comm.rank == 0:
            vectors = {"parameters": checkpoint.params, **checkpoint.state}
            vectors[VECTOR[0]].view(np.uint32)[3] ^= 1 << 12
        usual_resume(trainer, checkpoint, sums)

    checkpointing.resume = resume
else:
    owner, name = MOMENTS[MOMENT]
    setattr(owner, name, struck(getattr(owner, name)))
usual_begin, train.begin = train.begin, begin
run_command("dist_vgg.train", train.main)
