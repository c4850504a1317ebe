"""What a run leaves to read: metrics.jsonl, and a live line where a person watches.

A metrics line is one JSON object with "kind" "step" or "epoch".
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from dist_vgg.files import write_text

SPANS = ("reading", "compute", "waiting", "exchange", "update")
PLAIN_SECONDS = 15  # between two plain lines
LAUNCHERS = ("mpirun", "mpiexec", "mpiexec.hydra", "orterun", "prterun", "prte", "srun")


class Clock:
    """Seconds spent in each part of the steps since `lap` was last called."""

    def __init__(self) -> None:
        self.lap()

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Count the time inside for one of `SPANS`."""
        start = time.perf_counter()
        yield
        self._seconds[name] += time.perf_counter() - start

    def lap(self) -> list[float]:
        """The seconds of each of `SPANS`, which then start from zero."""
        seconds = list(getattr(self, "_seconds", {}).values())
        self._seconds = dict.fromkeys(SPANS, 0.0)
        return seconds


class RunLog:
    """Records of one run, and the line that shows how it goes. Rank 0 has one that writes."""

    def __init__(
        self, folder: Path | None, first_step: int, steps: int, epochs: int, progress: str
    ) -> None:
        """Keep records up to `first_step` and drop what an interrupted run wrote after it.

        Without a folder nothing is written or shown.
        """
        self._epochs = epochs
        self._steps = steps
        self._file: TextIO | None = None
        self._last_plain = time.monotonic()
        self._plain = folder is not None and progress in ("auto", "plain")
        self._bar: Any = None
        if folder is None:
            return
        path = folder / "metrics.jsonl"
        if path.exists():
            lines = [s for s in path.read_text().splitlines(keepends=True) if s.endswith("\n")]
            write_text(path, "".join(s for s in lines if json.loads(s)["step"] <= first_step))
        self._file = path.open("a")
        terminal = _terminal() if progress == "auto" else None
        if progress == "live" or terminal:
            self._plain = False
            self._bar = tqdm(
                total=steps,
                initial=first_step,
                file=sys.stdout,
                ncols=_columns(terminal),
                mininterval=0.2,
                bar_format="{desc} |{bar}| {n_fmt}/{total_fmt} {remaining} left",
            )

    def step(self, record: Mapping[str, Any]) -> None:
        """Record a step; `record` has step, epoch, loss, accuracy and images_per_s."""
        self._write("step", record)
        if self._bar is not None:
            self._bar.set_description_str(self._line(record), refresh=False)
            self._bar.update(1)
        elif self._plain and time.monotonic() - self._last_plain > PLAIN_SECONDS:
            self._last_plain = time.monotonic()
            print(f"{self._line(record)}, step {record['step']}/{self._steps}", flush=True)

    def epoch(self, record: Mapping[str, Any], words: str) -> None:
        """Record a finished epoch, and say so."""
        self._write("epoch", record)
        if self._plain or self._bar is not None:
            self.say(words)

    def say(self, words: str) -> None:
        """Print a line without tearing the live one."""
        if self._bar is not None:
            self._bar.write(words, file=sys.stdout)
        else:
            print(words, flush=True)

    def close(self) -> None:
        """End the live line and the file."""
        if self._bar is not None:
            self._bar.close()
        if self._file:
            self._file.close()

    def _line(self, record: Mapping[str, Any]) -> str:
        return (
            f"epoch {record['epoch']}/{self._epochs} loss {record['loss']:.4f} "
            f"accuracy {record['accuracy']:.1%} {record['images_per_s']:.1f} images/s"
        )

    def _write(self, kind: str, record: Mapping[str, Any]) -> None:
        if self._file is None:
            return
        try:
            self._file.write(json.dumps({"kind": kind, **record}) + "\n")
            self._file.flush()
        except OSError as error:
            # A full disk is no reason to lose the training as well.
            self.say(f"metrics.jsonl can't be written ({error.strerror}); going on without")
            self._file = None


def read_metrics(folder: Path, kind: str) -> list[dict[str, Any]]:
    """The records of one kind in a run's folder."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


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
