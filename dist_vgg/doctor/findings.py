"""A finding: what a check has found, whether that is a fault, and what mends it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

OK, WARNING, FAULT = "ok", "warning", "fault"
NAMED = 4  # hosts that a line names

Facts = Mapping[str, Any]  # of one rank: its number, its host, and what each subject has found
World = Sequence[Facts]  # of all ranks, in order


@dataclass(frozen=True)
class Finding:
    """A line of the report."""

    level: str  # OK, WARNING: it works, but worse than it could; FAULT: it would fail
    check: str
    found: str
    mend: str = ""

    def __str__(self) -> str:
        """The line as it is printed."""
        mend = f"; {self.mend}" if self.mend else ""
        return f"{self.level:<8} {self.check:<10} {self.found}{mend}"


def by_host(world: World) -> dict[str, list[Facts]]:
    """The facts of each host's ranks, in order of rank."""
    hosts: dict[str, list[Facts]] = {}
    for rank in world:
        hosts.setdefault(rank["host"], []).append(rank)
    return hosts


def names(hosts: Iterable[str]) -> str:
    """Hosts, each once, in words: the first four of many."""
    found = list(dict.fromkeys(hosts))
    more = [f"{len(found) - NAMED} more"] * (len(found) > NAMED)
    return ", ".join([*found[:NAMED], *more])


def ranks_words(ranks: Sequence[int]) -> str:
    """Ranks in words: rank 3, ranks 0-2, ranks 0, 2 ..."""
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    if list(ranks) == list(range(ranks[0], ranks[-1] + 1)):
        return f"ranks {ranks[0]}-{ranks[-1]}"
    return f"ranks {', '.join(map(str, ranks[:8]))}{' ...' * (len(ranks) > 8)}"


def unlike(world: World, subject: str, *keys: str) -> str:
    """How ranks differ in a fact: each value with its owners; "" where all have the same."""
    groups: dict[str, list[Facts]] = {}
    for rank in world:
        value = rank[subject]
        for key in keys:
            value = value.get(key, "none")
        groups.setdefault(str(value), []).append(rank)
    if len(groups) < 2:
        return ""
    hosts = {rank["host"] for rank in world}

    def owners(ranks: list[Facts]) -> str:
        if len(hosts) > 1:
            return names(rank["host"] for rank in ranks)
        return ranks_words([rank["rank"] for rank in ranks])

    return ", ".join(f"{value} on {owners(ranks)}" for value, ranks in groups.items())
