"""What a series of trials has shown: a table by kind of fault, and the failures."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from dist_vgg.base.table import table
from dist_vgg.chaos.faults import KINDS
from dist_vgg.chaos.outcome import Outcome
from dist_vgg.chaos.plan import Plan

HEADER = ("kind of fault", "trials", "survived", "stopped", "steps lost", "s to recover")


@dataclass
class Result:
    """A trial and the verdict on it."""

    plan: Plan
    outcome: Outcome
    complaints: list[str] = field(default_factory=list)
    again: str = ""  # the command that repeats it
    folder: Path = Path()

    @property
    def survived(self) -> bool:
        return not self.complaints and self.plan.fault.survives

    @property
    def stopped(self) -> bool:
        return not self.complaints and not self.plan.fault.survives

    def line(self) -> str:
        """The trial in one line."""
        plan, outcome = self.plan, self.outcome
        struck = outcome.struck or {}
        where = f"{plan.ranks} rank{'s' * (plan.ranks > 1)}"
        if struck:
            place = f", {struck['moment']} of step {struck['step']}"
            where += f", rank {struck.get('rank', plan.rank)}{place}"
        said = "survived" if self.survived else "stopped" if self.stopped else "FAILED"
        if self.complaints:
            said += f": {'; '.join(self.complaints)}"
        elif outcome.steps_lost is not None:
            said += f", {outcome.steps_lost} steps lost"
        return f"{plan.trial:4d}  {plan.kind:<16} {where:<42} {outcome.seconds:5.1f} s  {said}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the output stays in the trial's folder."""
        outcome = {name: value for name, value in asdict(self.outcome).items() if name != "output"}
        return dict(
            **asdict(self.plan), survived=self.survived, stopped=self.stopped, **outcome,
            complaints=self.complaints, again=self.again, folder=str(self.folder),
        )  # fmt: skip


def results_table(results: Sequence[Result]) -> str:
    """A row for each kind of fault, and one for all."""
    groups = [(kind, [r for r in results if r.plan.kind == kind]) for kind in KINDS]
    groups = [(kind, group) for kind, group in groups if group] + [("all", list(results))]
    return table(HEADER, [_row(name, group) for name, group in groups])


def _row(name: str, group: Sequence[Result]) -> tuple[str, ...]:
    lost = [r.outcome.steps_lost for r in group if r.outcome.steps_lost is not None]
    seconds = [r.outcome.recovery for r in group if r.outcome.recovery is not None]
    wanted = [r.plan.fault.survives for r in group]
    return (
        name,
        str(len(group)),
        f"{sum(r.survived for r in group)} of {sum(wanted)}" if any(wanted) else "–",
        f"{sum(r.stopped for r in group)} of {len(wanted) - sum(wanted)}"
        if not all(wanted)
        else "–",
        f"{median(lost):g}, at most {max(lost)}" if lost else "–",
        f"{median(seconds):.1f}, at most {max(seconds):.1f}" if seconds else "–",
    )


def failures(results: Sequence[Result]) -> str:
    """Each failure, the command that repeats it, and the path of its output."""
    return "\n".join(
        f"trial {r.plan.trial}, {r.plan.kind}: {'; '.join(r.complaints)}\n"
        f"  again   {r.again}\n"
        f"  output  {r.folder / 'output.txt'}"
        for r in results
        if r.complaints
    )
