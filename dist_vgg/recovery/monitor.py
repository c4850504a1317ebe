"""The watch over one start of a job: it waits for the end, and finds what never ends by itself."""

import math
import platform
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress

from dist_vgg.base.signals import REPEATED
from dist_vgg.recovery.job import Job

STARTING = 1  # seconds after which mpirun has started ranks, be they here or elsewhere
LAST_SECONDS = 1  # that ranks have to end after a second signal


class Monitor:
    """What has been seen of a job since its start, in seconds of a clock that Ctrl-Z stops too."""

    def __init__(self, job: Job, signals: Sequence[int], stall: float, patience: float) -> None:
        """`signals` grows as this process receives signals; see `wait`.

        A process may be stopped for `stall` seconds (0: for ever) before it counts as lost, and
        the others, or mpirun, then have `patience` seconds to say so themselves.
        """
        self._job, self._signals = job, signals
        self._stall, self._patience = stall, patience
        self._clock = 0.0
        self._last_tick = time.monotonic()  # by the system's clock
        self._last_look = -1.0
        self._first_loss = math.inf  # when a rank was first seen to be gone
        self._stopped: dict[int, float] = {}  # since when, by pid
        self._signal_sent: float | None = (
            None  # when the first signal was passed on, by the system's clock
        )

    def wait(self) -> str:
        """Wait for mpirun to end; otherwise say what is wrong, if it won't end by itself.

        The first signal is passed on, so that the ranks save and stop; the second ends the job.
        """
        mpirun = self._job.mpirun
        while mpirun.poll() is None and len(self._signals) < 2:
            self._job.note_ends(0.05)
            self._tick()
            if self._signals and self._signal_sent is None:
                self._pass_signal_on()
            if self._clock - self._last_look > (0.05 if self._clock < 2 else 0.5):
                self._look()
            if trouble := self._stopped_too_long() or self._hung():
                return trouble
        return self._end_now() if mpirun.poll() is None else ""

    def _tick(self) -> None:
        """Count the time since the last tick, but not time in which Ctrl-Z stopped us as well."""
        now = time.monotonic()
        self._clock += min(now - self._last_tick, 1)
        self._last_tick = now

    def _pass_signal_on(self) -> None:
        """Tell the ranks to save and stop. MPICH's mpirun would lose it before it has any."""
        if self._job.names or self._clock > STARTING:
            self._send_stop()

    def _send_stop(self) -> None:
        # Of all signals, the one at which both MPIs let the ranks take their time.
        self._job.mpirun.send_signal(signal.SIGUSR1)
        self._signal_sent = time.monotonic()

    def _look(self) -> None:
        """See which processes are stopped, and whether a rank is gone."""
        self._last_look, processes = self._clock, self._job.processes()
        self._stopped = {
            pid: self._stopped.get(pid, self._clock)
            for pid, process in processes.items()
            if process.state == "T"
        }
        lost = self._job.names.keys() - processes.keys()
        self._first_loss = min(self._first_loss, self._clock) if lost else math.inf

    def _stopped_too_long(self) -> str:
        for pid, since in self._stopped.items():
            seconds = self._clock - since
            # The other ranks, where there are any, know more and speak first.
            if self._stall and seconds > self._stall + self._patience:
                name = f"{self._job.names.get(pid, 'a process')} on {platform.node()}"
                return (
                    f"{name} (pid {pid}) has been stopped for {seconds:.0f} s (mpirun was killed)"
                )
        return ""

    def _hung(self) -> str:
        if self._clock - self._first_loss > self._patience:
            return self._job.describe_loss("mpirun hung and was killed")
        return ""

    def _end_now(self) -> str:
        """End mpirun, which still runs at the second signal."""
        mpirun = self._job.mpirun
        # If this reaches the ranks late enough it is their second signal as well, and they remove
        # their memory.
        if self._signal_sent is None:
            self._send_stop()
        assert self._signal_sent is not None
        with suppress(subprocess.TimeoutExpired):
            mpirun.wait(max(0.0, self._signal_sent + REPEATED - time.monotonic()))
        mpirun.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            mpirun.wait(LAST_SECONDS)
        return "ended by a second signal"
