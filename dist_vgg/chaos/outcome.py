"""What came of a trial, read from what its processes have left."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from dist_vgg.base.errors import UserError
from dist_vgg.chaos.injector import JOURNAL, STRUCK
from dist_vgg.state.weights import load_weights


@dataclass
class Outcome:
    """What came of a trial."""

    struck: dict[str, Any] | None = None  # time, moment, rank, host, step, done
    statuses: list[int] = field(default_factory=list)  # of the supervisor; -n: killed by signal n
    lost: list[int] = field(default_factory=list)  # the ranks' statuses, before each restart
    output: str = ""
    sha256: str = ""  # of the weights that training ended with
    steps_lost: int | None = None  # that ranks computed again
    recovery: float | None = None  # seconds from the strike to the next step recorded
    orphans: list[str] = field(default_factory=list)  # processes that are left
    memory: list[str] = field(default_factory=list)  # files that are left in /dev/shm
    partials: list[str] = field(default_factory=list)  # half-written files that are left
    hung: bool = False
    seconds: float = 0.0


def read_outcome(outcome: Outcome, folder: Path) -> None:
    """Fill in what the files in a trial's folder tell."""
    run, output = folder / "run", folder / "output.txt"
    outcome.output = output.read_text(errors="replace") if output.exists() else ""
    if (folder / STRUCK).exists():
        outcome.struck = json.loads((folder / STRUCK).read_text() or "{}")
    events = json_lines(run / "elastic.jsonl")
    # The last end of ranks in each start of the supervisor is also the supervisor's own.
    outcome.lost = [
        int(event["status"])
        for event, following in pairwise(events)
        if event["event"] == "ended" and following["event"] != "exit"
    ]
    outcome.sha256 = final_sha256(run)
    outcome.partials = [str(path) for path in run.rglob(".*.partial")]
    outcome.steps_lost, outcome.recovery = recovery(outcome.struck, json_lines(folder / JOURNAL))


def recovery(
    struck: Mapping[str, Any] | None, journal: Sequence[Mapping[str, Any]]
) -> tuple[int | None, float | None]:
    """How many steps a strike has cost, and the seconds to the first step after it; if any."""
    if not struck:
        return None, None
    later = [event for event in journal if event["time"] > struck["time"]]
    begun = next((e for e in later if e["what"] == "begin" and e["rank"] == 0), None)
    if begun is None:
        return None, None
    # Rank 0 may note a step that it did before the strike only after it, hence the start's time.
    went_on = [e["time"] for e in later if e["what"] == "stepped" and e["time"] > begun["time"]]
    # After a signal the ranks finish their step, so `begun` may be later than `done`.
    lost = max(0, struck["done"] - begun["step"])
    return lost, went_on[0] - struck["time"] if went_on else None


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file, without a line that a kill has torn."""
    found = []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


def remove_memory(folder: Path) -> list[str]:
    """Remove the files in /dev/shm that a trial's ranks had; returns those that were left."""
    journal = json_lines(folder / JOURNAL)
    had = sorted({path for event in journal for path in event.get("files", [])})
    left = [path for path in had if Path(path).exists()]
    for path in left:
        Path(path).unlink(missing_ok=True)
    return left


def final_sha256(run: Path) -> str:
    """SHA-256 of the weights in a run's folder, computed anew; empty where there are none."""
    try:
        return hashlib.sha256(load_weights(run).params.astype("<f4").tobytes()).hexdigest()
    except UserError:
        return ""
