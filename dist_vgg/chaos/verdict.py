"""The verdict on a trial: everything in its outcome that is not as the fault's kind demands."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from dist_vgg.chaos.damage import harmed_shard
from dist_vgg.chaos.faults import ANY_STATUS, NOTHING
from dist_vgg.chaos.outcome import Outcome
from dist_vgg.chaos.plan import Plan


def complaints(plan: Plan, outcome: Outcome, sha256: str, several_hosts: bool = False) -> list[str]:
    """All that is wrong with an outcome; `sha256` is that of the undisturbed run."""
    if outcome.hung:
        return [f"it hung: {'; '.join(outcome.orphans)}"]
    return [
        *_of_ends(plan, outcome, sha256),
        *_of_restarts(plan, outcome, travels=several_hosts or plan.route == "flat"),
        *_of_words(plan, outcome),
        *_of_leftovers(outcome),
    ]


def _of_ends(plan: Plan, outcome: Outcome, sha256: str) -> Iterator[str]:
    """Whether the fault struck, and how the supervisor and training ended."""
    fault = plan.fault
    if fault.action and outcome.struck is None:
        yield "the fault never struck"
    if tuple(outcome.statuses) != fault.statuses:
        yield f"status {_in_words(outcome.statuses)} instead of {_in_words(fault.statuses)}"
    if fault.survives and outcome.sha256 != sha256:
        yield f"parameters {outcome.sha256[:16] or 'missing'} instead of {sha256[:16]}"
    if not fault.survives and outcome.sha256:
        yield "it trained to the end"


def _of_restarts(plan: Plan, outcome: Outcome, travels: bool) -> Iterator[str]:
    """Why the supervisor started ranks again, and what that cost.

    Where parameters travel, they may still be arriving in the step after theirs.
    """
    wanted, lost = plan.fault.lost, outcome.lost
    if wanted == NOTHING and lost:
        yield f"ranks were lost, with status {_in_words(lost)}"
    elif wanted == ANY_STATUS and len(lost) != 1:
        yield f"ranks were lost {len(lost)} times instead of once"
    elif isinstance(wanted, int) and lost != [wanted]:
        yield f"ranks were lost with status {_in_words(lost)}, not {wanted}"
    if outcome.steps_lost is not None and outcome.steps_lost > plan.fault.most_lost + travels:
        yield f"{outcome.steps_lost} steps were lost"
    if outcome.recovery is not None and outcome.recovery > plan.fault.soon:
        yield f"{outcome.recovery:.0f} s until the next step, not {plan.fault.soon:g}"


def _of_words(plan: Plan, outcome: Outcome) -> Iterator[str]:
    """Whether the output says what happened, and where."""
    path = harmed_shard(Path(), plan).name
    host = (outcome.struck or {}).get("host", "")
    names = dict(rank=plan.rank, host=re.escape(host), path=re.escape(path))
    for pattern in plan.fault.words:
        # str.format would take the pattern's own braces for names.
        for name, value in names.items():
            pattern = pattern.replace(f"{{{name}}}", str(value))
        if not re.search(pattern, outcome.output):
            yield f"the output has nothing like {pattern!r}"
    if "Traceback (most recent call last)" in outcome.output:
        yield "there is a traceback"


def _of_leftovers(outcome: Outcome) -> Iterator[str]:
    """What the trial should have cleaned up."""
    for what, left in (
        ("processes", outcome.orphans),
        ("files in shared memory", outcome.memory),
        ("files half written", outcome.partials),
    ):
        if left:
            yield f"{what} were left: {'; '.join(left)}"


def _in_words(statuses: Sequence[int]) -> str:
    return ", then ".join(map(str, statuses)) or "none"
