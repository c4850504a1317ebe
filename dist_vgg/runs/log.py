"""The records of a run, in metrics.jsonl, and the line on the terminal that shows its progress.

Each line of metrics.jsonl is a JSON object. Its "kind" is "step", "ranks" (the figures of each
rank in a step), "epoch", "score" (of held-out images) or, where a signal has stopped the run,
"stopped".
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from dist_vgg.base.errors import UserError
from dist_vgg.base.files import write_text
from dist_vgg.base.progress import Progress


class RunLog:
    """Writes the records of a run and shows its progress; rank 0 alone gives it a folder."""

    def __init__(
        self, folder: Path | None, first_step: int, steps: int, epochs: int, progress: str
    ) -> None:
        """Keep the records up to `first_step`; drop those that an interrupted run wrote after it.

        Without a folder nothing is written or shown.
        """
        self._epochs = epochs
        self._file: TextIO | None = None
        self._progress = Progress(steps, progress if folder is not None else "none", first_step)
        if folder is not None:
            try:
                self._file = _open_after(folder / "metrics.jsonl", first_step)
            except (UserError, OSError) as error:
                self._give_up(error)

    def step(self, record: Mapping[str, Any]) -> None:
        """Record a step: at least its step, epoch, loss, accuracy and images_per_s."""
        self._write("step", record)
        self._progress.update(
            1,
            f"epoch {record['epoch']}/{self._epochs} loss {record['loss']:.4f} "
            f"training accuracy {record['accuracy']:.1%} {record['images_per_s']:.1f} images/s",
        )

    def ranks(self, record: Mapping[str, Any]) -> None:
        """Record the figures of each rank in a step, which comes before that of the next step."""
        self._write("ranks", record)

    def epoch(self, record: Mapping[str, Any], words: str) -> None:
        """Record a finished epoch, and print `words` if there are any."""
        self._write("epoch", record)
        if self._progress.shown and words:
            self.say(words)

    def score(self, record: Mapping[str, Any], words: str) -> None:
        """Record a score of held-out images, and print `words`."""
        self._write("score", record)
        if self._progress.shown:
            self.say(words)

    def stopped(self, step: int, number: int) -> None:
        """Record that signal `number` has stopped the run after a step, which is saved."""
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
        """Stop writing: a full disk is no reason to lose the training as well."""
        reason = getattr(error, "strerror", None) or error
        self.say(f"metrics.jsonl can't be written ({reason}); going on without")
        self._file = None


def _open_after(path: Path, first_step: int) -> TextIO:
    """Open the file to add records, without those after `first_step`."""
    if path.exists():
        lines = path.read_text(errors="replace").splitlines(keepends=True)
        write_text(path, "".join(line for line in lines if _step(line) <= first_step))
    return path.open("a")


def _step(line: str) -> float:
    """The step of a record; infinite for a torn or damaged line, and for "stopped"."""
    try:
        record = json.loads(line) if line.endswith("\n") else {}
        return float(record["step"]) if record["kind"] != "stopped" else math.inf
    except (ValueError, KeyError, TypeError):
        return math.inf


def read_metrics(folder: Path, kind: str) -> list[dict[str, Any]]:
    """The records of one kind in a run's folder, except a line that is not finished yet."""
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    return [record for record in map(json.loads, whole) if record["kind"] == kind]
