"""Stopping a run on request: it saves at the first signal, and ends at once at the second.

Slurm can send SIGUSR1 before the time limit, and Open MPI's mpirun passes it on to the ranks; at
Ctrl-C that mpirun kills them after a quarter of a second.
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

REPEATED = 2  # seconds in which another signal is no second one: batch systems send several

received: list[int] = []  # the first signal, as soon as this process has it
_since: list[float] = []  # when the first came
_unlinked_at_interrupt: list[Path] = []  # names of shared memory


def catch_signals() -> None:
    """Record the first of `STOPS` for the training loop; raise Interrupted at a second one."""
    for number in STOPS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as nohup does
            signal.signal(number, _stop)


def unlink_at_interrupt(path: Path) -> None:
    """Have Ctrl-C unlink shared memory that this process would leave behind if it were killed.

    At a second Ctrl-C MPICH's mpirun kills all ranks, and nothing may remain.
    """
    _unlinked_at_interrupt.append(path)
    if signal.SIGINT in received:
        path.unlink(missing_ok=True)


def _stop(number: int, frame: FrameType | None) -> None:
    if received:
        # scancel tells ranks, launcher and supervisor, and each of these hands it on.
        late = number != signal.SIGUSR1 and time.monotonic() > _since[0] + REPEATED
        if late or number == signal.SIGINT:
            # An exception, so that half-written files and kept memory are removed on the way out.
            # A third signal ends a process that hangs nevertheless, but not while HDF5 writes.
            signal.signal(number, signal.SIG_DFL)
            raise Interrupted(number)
        return
    _since.append(time.monotonic())
    received.append(number)
    if number == signal.SIGINT:
        for path in _unlinked_at_interrupt:
            path.unlink(missing_ok=True)
    if number == signal.SIGHUP:  # the terminal has gone, and nobody reads what we say
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            if not stat.S_ISREG(os.fstat(stream).st_mode):
                os.dup2(nowhere, stream)
        os.close(nowhere)
        return
    if launched().rank == 0:  # not by `print`, which the signal may have interrupted
        # A supervisor passes every signal on as SIGUSR1, and says itself which it was.
        handed_on = SUPERVISED in os.environ and number == signal.SIGUSR1
        why = "" if handed_on else f"{signal_name(number)}: "
        again = "Ctrl-C again" if number == signal.SIGINT else "Ctrl-C"
        line = f"\n{why}saving after this step, then stopping; {again} stops at once\n"
        with suppress(OSError):
            os.write(1, line.encode())
