"""How a benchmark shows what it has found: numbers with their spread, tables, JSON, a picture."""

import json
import math
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from dist_vgg.base.files import write_text, written_beside


@dataclass(frozen=True)
class Spread:
    """Several readings of one quantity: it is their median, between the lowest and highest."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    def __str__(self) -> str:
        """The median with about three digits, and the lowest and highest with as many decimals."""
        size = math.floor(math.log10(abs(self.median))) if self.median else 0
        decimals = min(4, max(0, 2 - size))
        middle, low, high = (f"{v:,.{decimals}f}" for v in (self.median, self.low, self.high))
        return f"{middle} ({low}–{high})"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dict(median=self.median, low=self.low, high=self.high, values=self.values)


def spread(values: Iterable[float]) -> Spread:
    """The spread of any iterable of numbers."""
    return Spread(tuple(float(value) for value in values))


@dataclass
class Chart:
    """Bars in groups, one bar of each series in a group where it has a value."""

    title: str
    unit: str
    groups: list[str] = field(default_factory=list)
    series: dict[str, dict[str, Spread]] = field(default_factory=dict)

    def add(self, group: str, series: str, value: Spread) -> None:
        """Add one bar."""
        if group not in self.groups:
            self.groups.append(group)
        self.series.setdefault(series, {})[group] = value

    def of(self, group: str) -> list[str]:
        """The series that have a bar in a group."""
        return [name for name, values in self.series.items() if group in values]


@dataclass
class Report:
    """What a benchmark has found: the text to print, what JSON has of it, and its picture."""

    text: str
    results: dict[str, Any]
    chart: Chart


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def this_machine() -> dict[str, Any]:
    """Processor, cores and memory, as far as the system tells."""
    model = _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()
    total = _field("/proc/meminfo", "MemTotal")
    return dict(
        processor=" ".join(model.split()),
        cores=cores(),
        memory_gib=round(int(total.split()[0]) / 2**20, 1) if total else None,
        load_before=round(os.getloadavg()[0], 2),  # where others compute too, numbers suffer
    )


def _field(path: str, name: str) -> str:
    """The value of a `name : value` line; empty where there is none."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((s.split(":", 1)[1].strip() for s in lines if s.startswith(name)), "")


def machine_words(machine: Mapping[str, Any]) -> str:
    """The machine and its software, in two lines."""
    versions = machine["versions"]
    blas = ", ".join(versions["blas"]) or "unknown BLAS"
    mpi = " ".join(versions["mpi"].partition(",")[0].split())
    gib = f", {machine['memory_gib']} GiB" if machine["memory_gib"] else ""
    torch = f", PyTorch {versions['torch']}" if "torch" in versions else ""
    return (
        f"machine   {machine['processor']}, {machine['cores']} cores{gib}, {machine['machine']}, "
        f"load {machine['load_before']}\n"
        f"software  Python {versions['python']}, NumPy {versions['numpy']} ({blas}), "
        f"mpi4py {versions['mpi4py']} ({mpi}){torch}"
    )


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write what was found to a file."""
    write_text(path, json.dumps(content, indent=2, default=_as_dict) + "\n")


def _as_dict(value: Any) -> dict[str, Any]:
    if isinstance(value, Spread):
        return value.as_dict()
    raise TypeError(f"{value!r} is nothing for JSON")


def draw(path: Path, chart: Chart, caption: str) -> None:
    """Draw the bars, the first group at the top, with their spread as error bars."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    bars = [(group, name) for group in chart.groups for name in chart.of(group)]
    figure, axes = pyplot.subplots(figsize=(9, 1.6 + 0.27 * len(bars)), layout="constrained")
    thickness, place, ticks = 0.27, 0.0, []
    places = {}
    for group in chart.groups:
        names = chart.of(group)
        ticks.append(place + (len(names) - 1) * thickness / 2)
        for name in names:
            places[group, name] = place
            place += thickness
        place += 0.12
    for name, values in chart.series.items():
        at = [places[group, name] for group in values]
        spreads = list(values.values())
        below = [s.median - s.low for s in spreads]
        above = [s.high - s.median for s in spreads]
        axes.barh(at, [s.median for s in spreads], thickness, label=name)
        if any(below) or any(above):
            axes.errorbar(
                [s.median for s in spreads], at, xerr=[below, above], fmt="none", ecolor="black",
                elinewidth=1, capsize=2,
            )  # fmt: skip
        for y, s in zip(at, spreads, strict=True):
            axes.annotate(
                str(s).split(" ")[0], (s.high, y), (4, 0), textcoords="offset points", va="center",
                fontsize="x-small",
            )  # fmt: skip
    axes.set_yticks(ticks, chart.groups)
    axes.invert_yaxis()
    axes.margins(x=0.1, y=0.01)
    axes.set_xlim(left=0)
    axes.set_xlabel(chart.unit)
    axes.set_title(chart.title, fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)
    if len(chart.series) > 1:
        axes.legend(frameon=False, fontsize="small")
    figure.text(0.01, -0.01, caption, fontsize="x-small", va="top", color="0.4", wrap=True)
    with written_beside(path) as beside:
        figure.savefig(beside, format=path.suffix[1:], dpi=150, bbox_inches="tight")
    pyplot.close(figure)
