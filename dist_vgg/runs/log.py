"""What a run leaves to read: metrics.jsonl, and where its time went.

A metrics line is one JSON object with "kind" "step", "epoch" or "score" (on held-out images), or
"stopped" at the end of a run that is to go on.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from dist_vgg.base.errors import UserError
from dist_vgg.base.files import write_text
from dist_vgg.base.progress import Progress

# Where gradients travel during backward, between nodes, "waiting" is also for what is still on
# its way; "exchange" is all adding of gradients, and bringing the parameters to every replica;
# "audit" is looking for flipped bits where that isn't done in passing, and keeping the step.
KINDS = ("conv", "pool", "fc", "other")  # of layers
SPANS = (
    "reading",
    *(f"forward {kind}" for kind in KINDS),
    *(f"backward {kind}" for kind in KINDS),
    "waiting",
    "exchange",
    "update",
    "audit",
)


class Clock:
    """A stopwatch that counts every moment of a step for one of its parts."""

    def __init__(self) -> None:
        self.listener: Callable[[str], object] = lambda name: None  # told of every mark
        self._seconds = dict.fromkeys(SPANS, 0.0)
        self._last = time.perf_counter()

    def lap(self) -> dict[str, float]:
        """The seconds spent on each of `SPANS` until the last mark; they start from zero, now."""
        seconds, self._seconds = self._seconds, dict.fromkeys(SPANS, 0.0)
        self._last = time.perf_counter()
        return seconds

    def mark(self, name: str) -> None:
        """Count the time since the last mark for one of `SPANS`."""
        now = time.perf_counter()
        self._seconds[name] += now - self._last
        self._last = now
        self.listener(name)


class RunLog:
    """Records of one run, and the line that shows how it goes. Rank 0 has one that writes."""

    def __init__(
        self, folder: Path | None, first_step: int, steps: int, epochs: int, progress: str
    ) -> None:
        """Keep records up to `first_step` and drop what an interrupted run wrote after it.

        Without a folder nothing is written or shown.
        """
        self._epochs = epochs
        self._file: TextIO | None = None
        self._progress = Progress(steps, progress if folder is not None else "none", first_step)
        if folder is not None:
            try:
                self._file = _go_on(folder / "metrics.jsonl", first_step)
            except (UserError, OSError) as error:
                self._give_up(error)

    def step(self, record: Mapping[str, Any]) -> None:
        """Record a step; `record` has step, epoch, loss, accuracy and images_per_s."""
        self._write("step", record)
        self._progress.update(
            1,
            f"epoch {record['epoch']}/{self._epochs} loss {record['loss']:.4f} "
            f"training accuracy {record['accuracy']:.1%} {record['images_per_s']:.1f} images/s",
        )

    def epoch(self, record: Mapping[str, Any], words: str) -> None:
        """Record a finished epoch, and say so."""
        self._write("epoch", record)
        if self._progress.shown:
            self.say(words)

    def score(self, record: Mapping[str, Any], words: str) -> None:
        """Record a score on held-out images, and say so."""
        self._write("score", record)
        if self._progress.shown:
            self.say(words)

    def stopped(self, step: int, number: int) -> None:
        """Record that a signal has stopped the run, saved, after a step."""
        self._write("stopped", dict(step=step, signal=number))

    def say(self, words: str) -> None:
        """Print a line without tearing the live one."""
        self._progress.say(words)

    def close(self) -> None:
        """End the live line and the file."""
        self._progress.close()
        if self._file:
            self._file.close()

    def _write(self, kind: str, record: Mapping[str, Any]) -> None:
        if self._file is None:
            return
        try:
            self._file.write(json.dumps({"kind": kind, **record}) + "\n")
            self._file.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Write no more: a full disk is no reason to lose the training as well."""
        reason = getattr(error, "strerror", None) or error
        self.say(f"metrics.jsonl can't be written ({reason}); going on without")
        self._file = None


def _go_on(path: Path, first_step: int) -> TextIO:
    """The file to add records to, without those after `first_step`."""
    if path.exists():
        lines = path.read_text(errors="replace").splitlines(keepends=True)
        write_text(path, "".join(line for line in lines if _step(line) <= first_step))
    return path.open("a")


def _step(line: str) -> float:
    """The step of a record; a torn or damaged line counts as later than all, as does an end."""
    try:
        record = json.loads(line) if line.endswith("\n") else {}
        return float(record["step"]) if record["kind"] != "stopped" else math.inf
    except (ValueError, KeyError, TypeError):
        return math.inf


def read_metrics(folder: Path, kind: str) -> list[dict[str, Any]]:
    """The records of one kind in a run's folder, but one that its writer has not finished."""
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    return [record for record in map(json.loads, whole) if record["kind"] == kind]
