"""What limits a run: one line, from the seconds of all ranks."""

from collections.abc import Mapping, Sequence

import numpy as np

from dist_vgg.training.rank_times import PARTS, WHERE, RankTimes

SLOW = 1.15  # times the others' seconds for an image: a rank that takes longer is named
NOTICED = 0.03  # share of the others' time: they must wait as much before a rank is named
LARGE = 0.2  # share of a step that is worth a word, for any part but computing

MENDS = {
    "reading": "a faster disk, or shards in memory with --image-memory",
    "waiting": "ranks are late by turns; look for other work on these machines",
    "update": "larger micro-batches",
    "audit": "larger micro-batches",
}


def bottleneck(steps: Sequence[RankTimes], hosts: Sequence[str]) -> str:
    """What limited these steps, and what would help; "" where there are none.

    `hosts` has the host of each rank.
    """
    if not steps:
        return ""
    medians = _medians(steps)
    if late := _slow_rank(medians, hosts) or _uneven(medians):
        return late
    # Medians, since a first step that waits for another rank's start says nothing of the others.
    seconds = np.sum(list(medians.values()), axis=0)[: len(PARTS)]
    shares = dict(zip(PARTS, seconds / seconds.sum(), strict=True))
    computing = shares.pop("computing")
    part, share = max(shares.items(), key=lambda item: item[1])
    if share < LARGE:
        return f"computing, {computing:.0%} of a step"
    if part == "exposed":
        mend = "larger micro-batches"
        if len(set(hosts)) > 1:
            mend = f"a faster link, or {mend}"
        return f"exposed exchange, {share:.0%} of a step: {mend}"
    return f"{part}, {share:.0%} of a step: {MENDS[part]}"


def _medians(steps: Sequence[RankTimes]) -> dict[int, np.ndarray]:
    """The median of each column over a rank's steps, by rank."""
    rows: dict[int, list[np.ndarray]] = {}
    for step in steps:
        for rank, row in zip(step.ranks, step.table, strict=True):
            rows.setdefault(rank, []).append(row)
    return {rank: np.median(rows[rank], axis=0) for rank in sorted(rows)}


def _slow_rank(medians: Mapping[int, np.ndarray], hosts: Sequence[str]) -> str:
    """The rank that takes much longer for an image than the others do, or its host."""
    # Both in all and for an image: few images take longer each, and many take longer in all.
    seconds = {rank: row[WHERE["computing"]] for rank, row in medians.items()}
    each = {rank: seconds[rank] / max(1, row[WHERE["images"]]) for rank, row in medians.items()}
    in_all, ratios = _to_others(seconds), _to_others(each)
    slow = [rank for rank, ratio in ratios.items() if min(ratio, in_all[rank]) >= SLOW]
    waited = _share_waited(medians, slow)
    if not slow or waited < NOTICED:
        return ""
    worst = max(slow, key=lambda rank: ratios[rank])
    host = hosts[worst]
    who = f"rank {worst} on {host}: it takes"
    if len(slow) > 1 and slow == [rank for rank in ratios if hosts[rank] == host]:
        who = f"the ranks on {host}: they take up to"
    return (
        f"{who} {ratios[worst]:.2f} times as long for an image as the others, which waited "
        f"{waited:.0%} of the time"
    )


def _to_others(values: Mapping[int, float]) -> dict[int, float]:
    """Each rank's value divided by the median of the others'."""
    found = {}
    for rank, value in values.items():
        others = [other for r, other in values.items() if r != rank]
        median = float(np.median(others)) if others else 0.0
        found[rank] = value / median if median else 1.0
    return found


def _uneven(medians: Mapping[int, np.ndarray]) -> str:
    """That some ranks have more images than others, where these wait for them."""
    images = {rank: row[WHERE["images"]] for rank, row in medians.items()}
    most = max(images.values())
    busy = [rank for rank, count in images.items() if count > 0.99 * most]
    waited = _share_waited(medians, busy)
    if waited < LARGE / 2 or min(images.values()) > 0.9 * most:
        return ""
    named = ", ".join(map(str, busy[:4])) + ", ..." * (len(busy) > 4)
    who = f"rank {named} has" if len(busy) == 1 else f"ranks {named} have"
    return (
        f"uneven shards: {who} more images than the others, which waited {waited:.0%} of the "
        "time; let the number of ranks divide the shards"
    )


def _share_waited(medians: Mapping[int, np.ndarray], but: Sequence[int]) -> float:
    """The share of their time that all ranks but some spend waiting, by their medians."""
    rows = [row[: len(PARTS)] for rank, row in medians.items() if rank not in but]
    if not rows:
        return 0.0
    total = np.sum(rows)
    return float(np.sum(rows, axis=0)[WHERE["waiting"]] / total) if total else 0.0
