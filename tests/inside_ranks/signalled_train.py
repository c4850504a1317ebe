"""dist_vgg.train whose last rank alone gets a signal at a delicate moment; run under mpirun.

The first argument says when: "agree", after this step's signals were collected, or "share".
"""

import os
import signal
import sys
from typing import Any

from dist_vgg import train
from dist_vgg.exchange import route
from dist_vgg.mpi.command import run_command
from dist_vgg.training.trainer import Trainer

moment = sys.argv.pop(1)
agree, share = Trainer._agree, route.Route.all_gather
calls = 0


def strike(comm: Any) -> None:
    global calls
    calls += 1
    if calls == 2 and comm.rank == comm.size - 1:
        os.kill(os.getpid(), signal.SIGUSR1)


def agree_then_signal(self: Trainer, *sums: Any) -> dict[str, Any]:
    agreed = agree(self, *sums)
    strike(self.comm)
    return agreed


def signal_then_share(self: route.Route, follows: bool) -> bool:
    strike(self.comm)
    return share(self, follows)


if moment == "agree":
    Trainer._agree = agree_then_signal  # type: ignore[method-assign]
else:
    route.Route.all_gather = signal_then_share  # type: ignore[method-assign]
run_command("dist_vgg.train", train.main)
