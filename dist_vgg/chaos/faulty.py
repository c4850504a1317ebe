"""dist_vgg.train with one fault in it, which strikes once: what the ranks of a trial run."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dist_vgg import train
from dist_vgg.base.errors import UserError
from dist_vgg.chaos.hooks import install
from dist_vgg.chaos.injector import FAULT, FaultInjector
from dist_vgg.chaos.plan import Plan
from dist_vgg.mpi.command import run_command

if TYPE_CHECKING:
    from mpi4py import MPI


def main(argv: Sequence[str], comm: "MPI.Intracomm") -> int:
    """Run dist_vgg.train with the fault of DIST_VGG_FAULT."""
    try:
        told = json.loads(os.environ[FAULT])
    except KeyError:
        raise UserError("this is started by: python -m dist_vgg.chaos") from None
    install(FaultInjector(Path(told["folder"]), Plan(**told["plan"]), told["breaker"]))
    return train.main(argv, comm)


if __name__ == "__main__":
    run_command("dist_vgg.train", main)
