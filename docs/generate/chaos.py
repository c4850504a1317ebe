"""The table of `dist_vgg.chaos`, from its `--json`."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from .markdown import code, table, text

HEAD = ["fault", "trials", "came out right", "steps lost", "seconds until training goes on"]


def chaos_table(found: Mapping[str, Any]) -> str:
    """A row for each kind of fault, or for each family of them where only those are known."""
    if "families" in found:
        rows = [
            [
                text(one["fault"]),
                str(one["trials"]),
                str(one["right"]),
                text(one.get("steps_lost", "–")),
                text(one.get("seconds", "–")),
            ]
            for one in found["families"]
        ]
    else:
        kinds: dict[str, list[Mapping[str, Any]]] = {}
        for trial in found["trials"]:
            kinds.setdefault(trial["kind"], []).append(trial)
        rows = [_row(kind, trials) for kind, trials in sorted(kinds.items())]
        rows.append(_row("", found["trials"]))
    return table(HEAD, rows)


def _row(kind: str, trials: Sequence[Mapping[str, Any]]) -> list[str]:
    """One kind of fault over its trials; without a name all of them."""
    lost = [t["steps_lost"] for t in trials if t["steps_lost"] is not None]
    seconds = [t["recovery"] for t in trials if t["recovery"] is not None]
    return [
        code(kind) if kind else "all",
        str(len(trials)),
        str(sum(not t["complaints"] for t in trials)),
        f"at most {max(lost)}" if lost else "–",
        f"{median(seconds):.1f}, at most {max(seconds):.1f}" if seconds else "–",
    ]
