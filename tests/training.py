"""What the tests of training share: small options, one fault in a run, and what it must leave."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import launcher

from dist_vgg.runs.log import read_metrics
from dist_vgg.state import shm
from dist_vgg.state.weights import load_weights

SMALL = ("--width", 0.02, "--micro-batch", 3, "--warmup", 2, "--progress", "none")
EPOCHS = ("--epochs", 2)
STALL = 3  # seconds; a busy machine takes more than one between two signs of progress
SHM = Path("/dev/shm")
INSIDE = launcher.ROOT / "tests" / "inside_ranks"


def small_options() -> dict[str, Any]:
    """The options of the run `reference`, as TrainConfig has them."""
    given = dict(zip(SMALL[::2], SMALL[1::2], strict=True)) | dict([EPOCHS])
    return {str(name).lstrip("-").replace("-", "_"): value for name, value in given.items()}


def outcome(folder: Path) -> list[tuple[Any, ...]]:
    """All of a run that must not depend on how it was run."""
    names = ("step", "epoch", "loss", "accuracy", "lr", "gradient_norm")
    steps = [tuple(r[name] for name in names) for r in read_metrics(folder, "step")]
    epochs = [(r["loss"], r["accuracy"], r["sha256"]) for r in read_metrics(folder, "epoch")]
    return [*steps, *epochs, (load_weights(folder).sha256,)]


def struck(ranks: int, fault: str, *options: object) -> tuple[int, str, str]:
    """Train with one fault, see struck_train.py: status, output and errors."""
    return launcher.run(ranks, INSIDE / "struck_train.py", fault, *options)


def refused(ranks: int, module: str, cases: Sequence[tuple[Sequence[object], str]]) -> None:
    """Call a command on real ranks with wrong options, and see that each gets its one line.

    All in one job, see mistaken.py: to start ranks takes longer than to refuse them.
    """
    lists = json.dumps([[str(word) for word in options] for options, _ in cases])
    status, output, errors = launcher.run(ranks, INSIDE / "mistaken.py", module, lists)
    assert status == 0, errors
    lines = [line for line in output.splitlines() if line.startswith("[")]
    for (options, words), line in zip(cases, lines, strict=True):
        status, said = json.loads(line)
        assert status == 2 and words in said and "\n" not in said, (options, status, said)


def wait_for_step(folder: Path, step: int, seconds: float = 60) -> None:
    """Wait until a run has recorded so many steps."""
    end = time.monotonic() + seconds
    path = folder / "metrics.jsonl"
    while not (path.exists() and path.read_text().count('"kind": "step"') >= step):
        assert time.monotonic() < end, f"no step {step} in {seconds} s"
        time.sleep(0.02)


def memory_of(folder: Path) -> list[Path]:
    """What a run has left in shared memory."""
    name = json.loads((folder / "config.json").read_text())["run"]
    return list(shm.folder().glob(f"{name}-*"))
