"""The commands that a sweep starts, one after the other, with the signals passed on to them."""

import signal
import subprocess
from collections.abc import Sequence

from dist_vgg.base.errors import KILLED_BY, STOPS


class CommandRunner:
    """Runs one command at a time, and passes on to it the signals that this process receives."""

    def __init__(self) -> None:
        """Take over the signals that ask to stop, except those that nohup ignores."""
        self.signals: list[int] = []  # those received
        self._child: subprocess.Popen[bytes] | None = None
        self._passed = False
        for number in STOPS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._pass_on)

    def _pass_on(self, number: int, frame: object) -> None:
        self.signals.append(number)
        if self._child and self._child.poll() is None:
            self._child.send_signal(number)
            self._passed = True

    def run(self, command: Sequence[object]) -> int:
        """Run a command to its end; returns its status, or 128 + the signal that we received."""
        if self.signals:
            return KILLED_BY + self.signals[0]
        words = list(map(str, command))
        # In a session of its own: a terminal's Ctrl-C would reach it twice, which means "at once".
        child = subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True)
        self._child = child
        if self.signals and not self._passed:  # it came while the child was being started
            child.send_signal(self.signals[0])
        status = child.wait()
        if self.signals:
            return KILLED_BY + self.signals[0]
        return KILLED_BY - status if status < 0 else status
