"""Pictures of what was measured, drawn with matplotlib: here a bar chart of readings."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dist_vgg.base.files import written_beside
from dist_vgg.bench.readings import Readings

BAR, GAP = 0.27, 0.12  # thickness of a bar, and what parts two groups


class Picture(Protocol):
    """What can be drawn."""

    @property
    def height(self) -> float:
        """Inches, of 9 in width."""

    def draw(self, axes: Any) -> None:
        """Draw on matplotlib's axes, labels included."""


@dataclass
class Chart:
    """Bars in groups: each series has at most one bar in a group."""

    title: str
    unit: str
    groups: list[str] = field(default_factory=list)
    series: dict[str, dict[str, Readings]] = field(default_factory=dict)

    def add(self, group: str, series: str, value: Readings) -> None:
        """Add one bar."""
        if group not in self.groups:
            self.groups.append(group)
        self.series.setdefault(series, {})[group] = value

    def series_of(self, group: str) -> list[str]:
        """The series that have a bar in a group."""
        return [name for name, values in self.series.items() if group in values]

    def positions(self) -> tuple[dict[tuple[str, str], float], list[float]]:
        """Where each bar lies, by group and series, and the middle of each group."""
        positions, middles, position = {}, [], 0.0
        for group in self.groups:
            names = self.series_of(group)
            middles.append(position + (len(names) - 1) * BAR / 2)
            for name in names:
                positions[group, name] = position
                position += BAR
            position += GAP
        return positions, middles

    @property
    def height(self) -> float:
        return 1.6 + BAR * len(self.positions()[0])

    def draw(self, axes: Any) -> None:
        """Draw the first group at the top; error bars reach from lowest to highest."""
        positions, middles = self.positions()
        for name, values in self.series.items():
            at = [positions[group, name] for group in values]
            _draw_series(axes, name, at, list(values.values()))
        axes.set_yticks(middles, self.groups)
        axes.invert_yaxis()
        axes.margins(x=0.1, y=0.01)
        axes.set_xlim(left=0)
        axes.set_xlabel(self.unit)
        axes.set_title(self.title, fontsize="medium")
        if len(self.series) > 1:
            axes.legend(frameon=False, fontsize="small")


def draw(path: Path, picture: Picture, caption: str) -> None:
    """Draw a picture into a file, with a caption below it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, picture.height), layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    picture.draw(axes)
    figure.text(0.01, -0.01, caption, fontsize="x-small", va="top", color="0.4", wrap=True)
    with written_beside(path) as beside:
        figure.savefig(beside, format=path.suffix[1:], dpi=150, bbox_inches="tight")
    pyplot.close(figure)


def _draw_series(axes: Any, name: str, at: Sequence[float], values: Sequence[Readings]) -> None:
    """Draw the bars of a series, each with its error bar and its median in digits."""
    medians = [v.median for v in values]
    below = [v.median - v.low for v in values]
    above = [v.high - v.median for v in values]
    axes.barh(at, medians, BAR, label=name)
    if any(below) or any(above):
        axes.errorbar(
            medians, at, xerr=[below, above], fmt="none", ecolor="black", elinewidth=1, capsize=2
        )
    for y, v in zip(at, values, strict=True):
        axes.annotate(
            str(v).split(" ")[0], (v.high, y), (4, 0), textcoords="offset points", va="center",
            fontsize="x-small",
        )  # fmt: skip
