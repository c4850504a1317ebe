"""The picture of networks that travel: error against bytes, by width and precision."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dist_vgg.state.precision import PRECISIONS

# Okabe and Ito's colours; the markers tell the lines apart where a print has none.
LOOKS = {"float32": ("#0072B2", "o"), "float16": ("#009E73", "s"), "int8": ("#D55E00", "^")}
MB = 1e6
TICKS = (1, 1.5, 2, 3, 4, 5, 7)  # of each power of ten of the error
LEAST_SPAN = 3.0  # largest by smallest error of the axis: a difference of one image looks small


@dataclass(frozen=True)
class Point:
    """One network in one precision."""

    bytes: int
    wrong: int
    total: int

    @property
    def error(self) -> float:
        """Per cent of the images; half an image for none, since a log axis has no zero."""
        return 100 * max(self.wrong, 0.5) / self.total


@dataclass(frozen=True)
class Frontier:
    """The points of each network by precision, under the network's label; the smallest first."""

    networks: Mapping[str, Mapping[str, Point]]
    images: str  # what the errors are of
    height: float = 5.4

    def draw(self, axes: Any) -> None:
        """Draw a line for each precision; a thin one joins the precisions of a network."""
        from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

        axes.set_xscale("log")
        axes.set_yscale("log")
        for label, points in self.networks.items():
            _draw_network(axes, label, [points[name] for name in PRECISIONS])
        for name, (colour, marker) in LOOKS.items():
            line = [points[name] for points in self.networks.values()]
            axes.plot(
                [p.bytes / MB for p in line], [p.error for p in line],
                label=name, color=colour, marker=marker, markersize=6, linewidth=1.4,
            )  # fmt: skip
        axes.margins(x=0.12)
        axes.set_ylim(*self._error_limits())
        for axis, subs in ((axes.xaxis, (1, 2, 5)), (axes.yaxis, TICKS)):
            axis.set_major_locator(LogLocator(subs=subs))
            axis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g} MB"))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.3g}%"))
        axes.grid(which="major", color="0.92", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_xlabel("size of the file of weights")
        axes.set_ylabel(f"error on {self.images}")
        axes.legend(frameon=False, fontsize="small", loc="upper right")

    def _error_limits(self) -> tuple[float, float]:
        """The lowest and highest error on the axis: those of all points, and room around them."""
        errors = [p.error for points in self.networks.values() for p in points.values()]
        low, high = min(errors), max(errors)
        half = max(math.sqrt(LEAST_SPAN), 1.2 * math.sqrt(high / low))
        return math.sqrt(low * high) / half, math.sqrt(low * high) * half


def _draw_network(axes: Any, label: str, points: Sequence[Point]) -> None:
    """Join the points of a network, and name it below the smallest."""
    from matplotlib.patheffects import withStroke

    axes.plot([p.bytes / MB for p in points], [p.error for p in points], color="0.7", linewidth=0.8)
    smallest = min(points, key=lambda p: p.bytes)
    axes.annotate(
        label, (smallest.bytes / MB, smallest.error), (-5, -5), textcoords="offset points",
        ha="right", va="top", fontsize="small", color="0.25",
        path_effects=[withStroke(linewidth=3, foreground="white")],
    )  # fmt: skip
