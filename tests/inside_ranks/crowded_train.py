"""dist_vgg.train where memory is short. It ends once that is dealt with, or the disk is `full`."""

import errno
import os
import signal
import sys
import time
from pathlib import Path

from dist_vgg import train
from dist_vgg.base import files
from dist_vgg.mpi.command import run_command
from dist_vgg.state import standby
from dist_vgg.training.trainer import Trainer

FULL = sys.argv.pop(1) == "full"


def fsync(path: Path) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def end(*arguments: object) -> None:
    time.sleep(0.5)  # until mpirun has passed on what has been said
    os.kill(os.getpid(), signal.SIGKILL)


standby.is_crowded = lambda run, home: True
if FULL:
    files.fsync = fsync
Trainer.__init__ = end  # type: ignore[assignment]
run_command("dist_vgg.train", train.main)
