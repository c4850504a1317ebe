"""Made-up readings of the benchmark of scaling."""

from collections.abc import Sequence
from typing import Any

from dist_vgg.bench.scaling_series import Job, Point, series


def made_up(job: Job, seconds: Sequence[float], cores: int = 8) -> list[dict[str, Any]]:
    """What a job would find that computes 75% of so many seconds a step; a round for each."""
    shares = dict(computing=0.75, waiting=0.125, exchange=0.0625, rest=0.0625)
    machine = dict(ranks=job.ranks, cores=cores)
    return [
        dict(
            seconds=[value], images=16 * job.shards, shards=job.shards, shares=shares,
            hidden=0.03125, sent_bytes=2e6, machines=[machine], sha256=64 * "a", route="node",
        )
        for value in seconds
    ]  # fmt: skip


def made_up_series(jobs: Sequence[Job], times: Sequence[float], cores: int = 8) -> list[Point]:
    """A series of readings that vary by a tenth."""
    found = {
        job.name: made_up(job, [value, 0.9 * value, 1.1 * value] * 3, cores)
        for job, value in zip(jobs, times, strict=True)
    }
    return series(jobs, found)
