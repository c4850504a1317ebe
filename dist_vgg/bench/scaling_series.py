"""What scaling comes to: speedup and efficiency at each number of ranks, over the base."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from dist_vgg.base.command_line import plural
from dist_vgg.bench.estimate import Estimate, rate, ratio


@dataclass(frozen=True)
class Job:
    """So many ranks that host so many shards."""

    ranks: int
    shards: int

    @property
    def name(self) -> str:
        return f"{plural(self.ranks, 'rank')}, {plural(self.shards, 'shard')}"

    @property
    def balance(self) -> float:
        """The mean number of shards of a rank, over the most: no efficiency is higher."""
        return self.shards / self.ranks / -(-self.shards // self.ranks)


@dataclass(frozen=True)
class Point:
    """A job, what it has measured, and how that compares with the base."""

    job: Job
    seconds: Estimate  # of a step
    values: tuple[float, ...]  # the median step of each round
    images_per_s: Estimate
    speedup: Estimate  # images/s over the base's; 1 for the base
    efficiency: Estimate  # the speedup over the ideal one
    shares: dict[str, float]  # of the step, by part
    hidden: float  # share of the step in which an exchange went on behind computing
    sent_bytes: float  # to other hosts in a step, the mean of the ranks
    computing: float  # rank-seconds of computing an image, over the base's
    oversubscribed: bool
    route: str
    sha256: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = asdict(self)
        job = found.pop("job")
        return {**job, **found}


def series(jobs: Sequence[Job], found: Mapping[str, Sequence[dict[str, Any]]]) -> list[Point]:
    """A point for each job; the first, with the fewest ranks, is the base of all."""
    points: list[Point] = []
    for job in jobs:
        points.append(_point(job, found[job.name], jobs[0], found[jobs[0].name]))
    return points


def _point(
    job: Job, runs: Sequence[dict[str, Any]], base: Job, base_runs: Sequence[dict[str, Any]]
) -> Point:
    """A job beside the base."""
    seconds, images_per_s = _measured(runs)
    ideal = job.ranks / base.ranks
    # The base over itself is 1, however it varies.
    speedup = ratio(images_per_s, _measured(base_runs)[1]) if job != base else Estimate(1, 1, 1, 1)
    middle, low, high = (end / ideal for end in (speedup.median, speedup.low, speedup.high))
    return Point(
        job=job,
        seconds=seconds,
        values=tuple(median(run["seconds"]) for run in runs),
        images_per_s=images_per_s,
        speedup=speedup,
        efficiency=Estimate(middle, low, high, speedup.confidence),
        shares={part: median(run["shares"][part] for run in runs) for part in runs[0]["shares"]},
        hidden=median(run["hidden"] for run in runs),
        sent_bytes=median(run["sent_bytes"] for run in runs),
        computing=_computing(job, runs) / _computing(base, base_runs),
        oversubscribed=any(one["ranks"] > one["cores"] for one in runs[0]["machines"]),
        route=runs[0]["route"],
        sha256=runs[0]["sha256"],
    )


def _measured(runs: Sequence[dict[str, Any]]) -> tuple[Estimate, Estimate]:
    """Seconds of a step, and images/s. A start has one reading: its steps depend on each other."""
    seconds = Estimate.of([median(run["seconds"]) for run in runs])
    return seconds, rate(runs[0]["images"], seconds)


def _computing(job: Job, runs: Sequence[dict[str, Any]]) -> float:
    """Seconds that all ranks together compute for an image, the median of the rounds."""
    return (
        median(
            run["shares"]["computing"] * sum(run["seconds"]) / len(run["seconds"]) / run["images"]
            for run in runs
        )
        * job.ranks
    )
