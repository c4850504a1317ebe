"""Ending a run that is asked to: saved at the first signal, at once at the second.

SIGUSR1 is what Slurm can be told to send before time is up, and what Open MPI's mpirun hands on;
at Ctrl-C it kills its ranks after a quarter of a second.
"""

import os
import signal
from contextlib import suppress
from pathlib import Path
from types import FrameType

from dist_vgg.comm import launched
from dist_vgg.errors import Interrupted

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)

received: list[int] = []  # signals that this process has got, at any moment
names: list[Path] = []  # of the memory that this process would leave behind if it were killed


def catch_signals() -> None:
    """Note the first of `STOPS`, for the training to see; raise Interrupted at the second."""
    for number in STOPS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as nohup does
            signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    if received:
        # Raised, so that what is half written or kept in memory is removed. A third signal ends
        # even a process that hangs.
        signal.signal(number, signal.SIG_DFL)
        raise Interrupted(number)
    received.append(number)
    if number == signal.SIGINT:
        # At a second one MPICH's mpirun kills us, and nothing is to be left behind.
        for path in names:
            path.unlink(missing_ok=True)
    if number == signal.SIGHUP:  # the terminal has gone, and nobody reads what we say
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        return
    rank, _ = launched()
    if rank == 0:  # not by `print`, which this may have come amid
        name = signal.Signals(number).name
        line = f"\n{name}: saving after this step, then stopping; once more to stop at once\n"
        with suppress(OSError):
            os.write(1, line.encode())
