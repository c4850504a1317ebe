"""Cores: which ones each rank may use, and whether others are bound to the same."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dist_vgg.base.command_line import plural
from dist_vgg.doctor.findings import (
    FAULT,
    OK,
    WARNING,
    Facts,
    Finding,
    World,
    by_host,
    ranks_words,
)  # fmt: skip

if TYPE_CHECKING:
    from mpi4py import MPI

CHECK = "cores"
CGROUPS = Path("/sys/fs/cgroup")
UNBIND = "mpirun -bind-to core (MPICH) or --bind-to core (Open MPI) gives each rank its own"


def facts(comm: "MPI.Intracomm") -> dict[str, Any]:
    """The cores of this process now, after MPI's start, and what its host and cgroup have."""
    every = os.cpu_count() or 1
    bound = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return dict(
        bound=bound or list(range(every)),
        allowed=_cpuset() or list(range(every)),
        quota=_quota(),
        load=round(os.getloadavg()[0], 2),
    )


def cgroup_files(controller: str, *names: str) -> Iterator[str]:
    """What the files of this process's cgroup say, the innermost first; of version 1 and 2."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, place = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            root = CGROUPS / controller if controllers else CGROUPS
            inner = root / place.strip("/")
            folders = [inner, *(up for up in inner.parents if up.is_relative_to(root))]
            for folder in folders:
                with suppress(OSError):
                    yield " ".join((folder / name).read_text().strip() for name in names)


def _cpuset() -> list[int]:
    """The cores that the cgroup leaves to its processes; none where it says nothing."""
    for name in ("cpuset.cpus.effective", "cpuset.effective_cpus"):
        for text in cgroup_files("cpuset", name):
            with suppress(ValueError):
                spans = [part.split("-") for part in text.split(",") if part]
                cores = {n for span in spans for n in range(int(span[0]), int(span[-1]) + 1)}
                if cores:
                    return sorted(cores)
    return []


def _quota() -> float:
    """How many cores' time the cgroup grants all its processes together; 0 for no limit."""
    found = []
    texts = [
        *cgroup_files("cpu", "cpu.max"),
        *cgroup_files("cpu", "cpu.cfs_quota_us", "cpu.cfs_period_us"),
    ]
    for text in texts:
        with suppress(ValueError):
            quota, period = map(float, text.split())
            if quota > 0:
                found.append(quota / period)
    return min(found, default=0.0)


def judge(world: World) -> Iterator[Finding]:
    """Two ranks on one core while others idle, and more ranks than cores."""
    crowded = False
    for host, ranks in by_host(world).items():
        for finding in _of_host(host, ranks):
            crowded = True
            yield finding
    if not crowded:
        most = max(len(ranks) for ranks in by_host(world).values())
        fewest = min(usable(ranks) for ranks in by_host(world).values())
        each = f"{fewest:g} or more" if len(by_host(world)) > 1 else f"{fewest:g}"
        few = f"at most {plural(most, 'rank')} on a host, which has {each} of them"
        yield Finding(OK, CHECK, f"{few}; no two ranks are bound to one")


def cores_of(ranks: Sequence[Facts], what: str) -> list[int]:
    """The cores that ranks of a host are `bound` to, or that their cgroups have `allowed`."""
    return sorted({core for rank in ranks for core in rank["cores"][what]})


def usable(ranks: list[Facts]) -> float:
    """How many cores the ranks of a host have together: those bound to, and the quota's."""
    bound, quota = len(cores_of(ranks, "bound")), ranks[0]["cores"]["quota"]
    return min(bound, quota) if quota else bound


def _of_host(host: str, ranks: list[Facts]) -> Iterator[Finding]:
    """One finding for a host at most: the worst."""
    allowed = cores_of(ranks, "allowed")
    # Where every core must take several ranks, binding them in turns is as good as it gets.
    fair = max(1, math.ceil(len(ranks) / len(allowed)))
    union = tuple(cores_of(ranks, "bound"))
    for bound in [*dict.fromkeys(tuple(rank["cores"]["bound"]) for rank in ranks), union]:
        inside = [rank["rank"] for rank in ranks if set(rank["cores"]["bound"]) <= set(bound)]
        if len(bound) < len(allowed) and len(inside) > fair * len(bound):
            yield Finding(
                FAULT, CHECK, f"{ranks_words(inside)} on {host} are bound to "
                f"{plural(len(bound), 'core')} ({_spans(bound)}) of {len(allowed)}", UNBIND,
            )  # fmt: skip
            return
    have, quota = usable(ranks), ranks[0]["cores"]["quota"]
    if len(ranks) > have:
        whose = f"the cgroup of {host} grants the time of" if quota and quota <= have else (
            f"{host} has"
        )  # fmt: skip
        yield Finding(
            WARNING, CHECK, f"{plural(len(ranks), 'rank')} for {have:.2g} core{'s' * (have != 1)}: "
            f"{whose} no more",
            "fewer ranks give the same weights sooner",
        )  # fmt: skip


def _spans(cores: tuple[int, ...]) -> str:
    """Cores in words, as taskset has them: 0-3,6."""
    parts: list[list[int]] = []
    for core in cores:
        if parts and parts[-1][-1] == core - 1:
            parts[-1][1:] = [core]
        else:
            parts.append([core])
    return ",".join("-".join(map(str, part)) for part in parts)


def row(ranks: list[Facts]) -> str:
    """The cores of a host for the table: how many are used of how many."""
    return f"{usable(ranks):.2g} of {len(cores_of(ranks, 'allowed'))}"
