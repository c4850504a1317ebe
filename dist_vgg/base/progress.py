"""How far a command is: a live line where a person watches, else a plain one now and then."""

import os
import sys
import time
from pathlib import Path
from typing import Any

PLAIN_SECONDS = 15  # between two plain lines
LAUNCHERS = ("mpirun", "mpiexec", "mpiexec.hydra", "orterun", "prterun", "prte", "srun")


class Progress:
    """Counts up to a total, on standard output; the mode "none" shows nothing."""

    def __init__(self, total: int, mode: str = "auto", done: int = 0) -> None:
        self._total = total
        self._done = done
        self._last_plain = time.monotonic()
        self._bar: Any = None
        self.shown = mode != "none"
        terminal = _terminal() if mode == "auto" else None
        if mode == "live" or terminal:
            from tqdm import tqdm  # here, since most ranks show nothing, and it takes 30 ms

            self._bar = tqdm(
                total=total,
                initial=done,
                file=sys.stdout,
                ncols=_columns(terminal),
                mininterval=0.2,
                bar_format="{desc} |{bar}| {n_fmt}/{total_fmt} {remaining} left",
            )

    def update(self, count: int, line: str) -> None:
        """Count so many more as done; `line` says how it goes."""
        self._done += count
        if self._bar is not None:
            self._bar.set_description_str(line, refresh=False)
            self._bar.update(count)
        elif self.shown and time.monotonic() - self._last_plain > PLAIN_SECONDS:
            self._last_plain = time.monotonic()
            print(f"{line}, {self._done:,} of {self._total:,}", flush=True)

    def say(self, words: str) -> None:
        """Print a line without tearing the live one."""
        if self._bar is not None:
            self._bar.write(words, file=sys.stdout)
        else:
            print(words, flush=True)

    def close(self) -> None:
        """End the live line."""
        if self._bar is not None:
            self._bar.close()


def _terminal() -> str | None:
    """The terminal on which a person sees our output, if there is one.

    Under mpirun a rank's output is always a pipe to mpirun, so the question is where the
    nearest launcher among our ancestors writes to. Where /proc doesn't tell, nobody watches.
    """
    if sys.stdout.isatty():
        return os.ttyname(sys.stdout.fileno())
    pid = os.getppid()
    try:
        while pid > 1:
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            if name in LAUNCHERS:
                output = str(Path(f"/proc/{pid}/fd/1").readlink())
                return output if output.startswith(("/dev/pts/", "/dev/tty")) else None
            # "pid (name) state ppid": the name may hold spaces and brackets.
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError):
        pass
    return None


def _columns(terminal: str | None) -> int:
    """The width of a terminal, less one so that no line wraps."""
    try:
        handle = os.open(terminal or "/dev/tty", os.O_RDONLY | os.O_NOCTTY)
        try:
            return max(40, os.get_terminal_size(handle).columns - 1)
        finally:
            os.close(handle)
    except OSError:
        return 99
