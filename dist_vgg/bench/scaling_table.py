"""The tables of scaling, and what one has to know to read them."""

from collections.abc import Mapping, Sequence

from dist_vgg.base.command_line import plural
from dist_vgg.base.table import table
from dist_vgg.bench.estimate import CONFIDENCE
from dist_vgg.bench.scaling_series import Point

MEASURED = ("shards", "s a step", "images/s", "speedup", "ideal", "efficiency", "route")
TITLES = dict(strong="strong scaling", weak="weak scaling")
NOTES = """\
speedup: images/s over the base's (in weak scaling: the scaled speedup); efficiency: of the ideal
computing, waiting, exchange: share of the step, mean of the ranks; rest: reading, update, audit
hidden: exchange that went on behind computing, as a share of the step; MB sent: to other hosts
for an image: rank-seconds of computing over the base's; above 1, ranks slow each other down
the result depends on shards, never on ranks: strong scaling divides the same shards among more
ranks; weak scaling takes more shards with more ranks, and so a larger batch"""


def report_text(both: Mapping[str, Sequence[Point]], steps: int) -> str:
    """Both tables of both kinds of scaling, and the notes."""
    measured = [_measured_table(TITLES[kind], points) for kind, points in both.items()]
    parts = [_parts_table(TITLES[kind], points) for kind, points in both.items()]
    return "\n\n".join([*measured, *parts, "\n".join([*_foot(both, steps), NOTES])])


def _measured_table(title: str, points: Sequence[Point]) -> str:
    """How long a step takes, and how that compares with the base."""
    rows = [
        [
            _label(point, points),
            str(point.job.shards),
            str(point.seconds),
            str(point.images_per_s),
            f"{point.speedup.median:.2f}",
            f"{point.job.ranks / points[0].job.ranks:.2f}",
            point.efficiency.percent if point is not points[0] else "100%",
            point.route,
        ]
        for point in points
    ]
    return table([title, *MEASURED], rows)


def _parts_table(title: str, points: Sequence[Point]) -> str:
    """Where the time of a step goes."""
    rows = [
        [
            _label(point, points),
            *(f"{share:.1%}" for share in point.shares.values()),
            f"{point.hidden:.1%}",
            f"{point.sent_bytes / 1e6:.1f}",
            f"{point.computing:.2f}",
        ]
        for point in points
    ]
    return table([title, *points[0].shares, "hidden", "MB sent", "for an image"], rows)


def _label(point: Point, points: Sequence[Point]) -> str:
    """The number of ranks, and what is to be known of it."""
    mark = " *" if point.oversubscribed else ""
    return plural(point.job.ranks, "rank") + mark + (", base" if point is points[0] else "")


def _foot(both: Mapping[str, Sequence[Point]], steps: int) -> list[str]:
    """What these readings are, and what to beware of in them."""
    strong, rounds = both["strong"], len(both["strong"][0].values)
    base, least = strong[0], strong[-1].efficiency.confidence
    more = "" if base.seconds.confidence >= CONFIDENCE else "; 6 rounds or more give 95%"
    lines = [
        f"base: this program on {plural(base.job.ranks, 'rank')}, not another, serial program",
        f"median of {plural(rounds, 'round')} in turns, each with the median of "
        f"{plural(steps, 'step')} of a fresh start; a step lasts until its slowest rank ends it",
        f"(low–high): the median's interval of {base.seconds.confidence:.1%} confidence, by order "
        f"statistics{more}",
        f"of an efficiency: from the ends of both intervals, at least {least:.1%}",
        f"strong scaling: the same bits at {_numbers(strong)} ranks in all rounds, parameters "
        f"{base.sha256[:16]} after {steps + 2} steps",
    ]
    lines += [
        f"{point.job.name}: one rank hosts more than another, so at most {point.job.balance:.0%} "
        "efficiency"
        for point in strong
        if point.job.balance < 1
    ]
    if any(point.oversubscribed for points in both.values() for point in points):
        lines.append("* oversubscribed: more ranks than cores, so it shows no scaling")
    return lines


def _numbers(points: Sequence[Point]) -> str:
    """The numbers of ranks, in words."""
    *most, last = (str(point.job.ranks) for point in points)
    return f"{', '.join(most)} and {last}"
