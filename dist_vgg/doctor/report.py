"""The report: a table of hosts, a line for each finding, and all of it as JSON."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import dist_vgg
from dist_vgg.base.command_line import plural
from dist_vgg.base.table import table
from dist_vgg.doctor import clocks, cores, exchange, speed, step
from dist_vgg.doctor.findings import FAULT, WARNING, Finding, World, by_host

HEADER = ("host", "ranks", "cores", "GFLOP/s", "at once", "/dev/shm", "interface", "clock")


def text(world: World, findings: Sequence[Finding]) -> str:
    """All that is printed."""
    tables = [hosts_table(world), exchange.sizes_table(world)] if "step" in world[0] else []
    parts = [*filter(None, tables), "\n".join(map(str, findings)), summary(findings)]
    return "\n\n".join(parts)


def hosts_table(world: World) -> str:
    """A row for each host: medians over its ranks."""
    rows = []
    for host, ranks in by_host(world).items():
        ahead = min((clocks.offset(world, rank["rank"]) for rank in ranks), key=abs)
        rows.append([
            host,
            str(len(ranks)),
            cores.row(ranks),
            f"{statistics.median(rank['speed']['alone'] for rank in ranks):.0f}",
            f"{speed.at_once(ranks):.0f}",
            f"{ranks[0]['memory']['free'] >> 20:,} MiB",
            ranks[0]["network"]["used"] or "-",
            f"{ahead:+.2f} s",
        ])  # fmt: skip
    return table(HEADER, rows)


def summary(findings: Sequence[Finding]) -> str:
    """The last line."""
    counts = [sum(each.level == level for each in findings) for level in (FAULT, WARNING)]
    return f"{plural(counts[0], 'fault')}, {plural(counts[1], 'warning')}"


def as_json(world: World, findings: Sequence[Finding]) -> dict[str, Any]:
    """All that was found; `ranks` has what each rank found."""
    measured = "step" in world[0] and not world[0]["step"]["error"]
    return dict(
        dist_vgg=dist_vgg.__version__,
        findings=[asdict(finding) for finding in findings],
        step=step.expected(world) if measured else None,
        ranks=list(world),
    )
