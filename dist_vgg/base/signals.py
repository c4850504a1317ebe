"""Ending a run that is asked to: saved at the first signal, at once at the second.

SIGUSR1 is what Slurm can be told to send before time is up, and what Open MPI's mpirun hands on;
at Ctrl-C it kills its ranks after a quarter of a second.
"""

import os
import signal
import stat
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

from dist_vgg.base.errors import STOPS, SUPERVISED, Interrupted, signal_name
from dist_vgg.base.launcher import launched

REPEATED = 2  # seconds in which what a batch system sends again is no second signal

received: list[int] = []  # signals that this process has got, at any moment
_since: list[float] = []  # when the first came
names: list[Path] = []  # of memory, to be lost at Ctrl-C


def catch_signals() -> None:
    """Note the first of `STOPS`, for the training to see; raise Interrupted at a second one."""
    for number in STOPS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as nohup does
            signal.signal(number, _stop)


def lose_at_interrupt(path: Path) -> None:
    """Have Ctrl-C take the name of memory that this process would leave behind if it were killed.

    At a second one MPICH's mpirun kills all ranks, and nothing is to be left.
    """
    names.append(path)
    if signal.SIGINT in received:
        path.unlink(missing_ok=True)


def _stop(number: int, frame: FrameType | None) -> None:
    if received:
        # scancel tells ranks, launcher and supervisor, and each of these hands it on.
        late = number != signal.SIGUSR1 and time.monotonic() > _since[0] + REPEATED
        if late or number == signal.SIGINT:
            # Raised, so that what is half written or kept in memory is removed. A third signal
            # ends a process that hangs all the same, but not amid a file that HDF5 writes.
            signal.signal(number, signal.SIG_DFL)
            raise Interrupted(number)
        return
    _since.append(time.monotonic())
    received.append(number)
    if number == signal.SIGINT:
        for path in names:
            path.unlink(missing_ok=True)
    if number == signal.SIGHUP:  # the terminal has gone, and nobody reads what we say
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            if not stat.S_ISREG(os.fstat(stream).st_mode):
                os.dup2(nowhere, stream)
        os.close(nowhere)
        return
    if launched().rank == 0:  # not by `print`, which this may have come amid
        # A supervisor hands on whatever it has got as SIGUSR1, and says itself what that was.
        handed_on = SUPERVISED in os.environ and number == signal.SIGUSR1
        why = "" if handed_on else f"{signal_name(number)}: "
        again = "Ctrl-C again" if number == signal.SIGINT else "Ctrl-C"
        line = f"\n{why}saving after this step, then stopping; {again} stops at once\n"
        with suppress(OSError):
            os.write(1, line.encode())
