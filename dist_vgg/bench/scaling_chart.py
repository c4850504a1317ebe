"""The picture of scaling: speedup against the ideal, and where the time of a step goes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dist_vgg.base.command_line import plural
from dist_vgg.bench.scaling_series import Point

# Okabe and Ito's colours. Points of the two kinds stand a little apart, so that both show.
KINDS = {"strong": ("#0072B2", "o", 0.98, -8), "weak": ("#D55E00", "s", 1.02, 8)}
PARTS = {"computing": "#56B4E9", "waiting": "#E69F00", "exchange": "#D55E00", "rest": "0.75"}


@dataclass(frozen=True)
class ScalingChart:
    """Both kinds of scaling."""

    both: Mapping[str, Sequence[Point]]

    @property
    def height(self) -> float:
        return max(4.4, 1.5 + 0.34 * sum(map(len, self.both.values())))

    def draw(self, axes: Any) -> None:
        """Draw two panels in the place of the axes."""
        figure = axes.figure
        axes.remove()
        speedup, parts = figure.subplots(1, 2)
        for panel in (speedup, parts):
            panel.spines[["top", "right"]].set_visible(False)
        self._draw_speedup(speedup)
        self._draw_parts(parts)

    def _draw_speedup(self, axes: Any) -> None:
        """The ideal is a line; what was measured are points, since nothing lies between them."""
        from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

        ranks = [point.job.ranks for point in self.both["strong"]]
        ideal = [count / ranks[0] for count in ranks]
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.plot(ranks, ideal, color="0.6", linewidth=1, linestyle="--", label="ideal")
        for kind, points in self.both.items():
            _draw_points(axes, kind, points)
        for axis, ticks in ((axes.xaxis, ranks), (axes.yaxis, ideal)):
            axis.set_major_locator(FixedLocator(ticks))
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.margins(0.16)
        axes.grid(color="0.92", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_xlabel("ranks")
        bases = (
            f"{kind} {points[0].images_per_s.median:,.3g}" for kind, points in self.both.items()
        )
        axes.set_title(f"images/s of the base: {', '.join(bases)}", fontsize="small")
        axes.set_ylabel(f"speedup over {plural(ranks[0], 'rank')}, and efficiency")
        axes.legend(frameon=False, fontsize="small", loc="upper left")

    def _draw_parts(self, axes: Any) -> None:
        """A bar for each job, the first at the top."""
        rows = [(kind, point) for kind, points in self.both.items() for point in points]
        names = [
            f"{kind}, {plural(point.job.ranks, 'rank')}{' *' * point.oversubscribed}"
            for kind, point in rows
        ]
        left = [0.0] * len(rows)
        for part, colour in PARTS.items():
            widths = [100 * point.shares[part] for _, point in rows]
            axes.barh(range(len(rows)), widths, 0.7, left, label=part, color=colour)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        axes.set_yticks(range(len(rows)), names)
        axes.invert_yaxis()
        axes.set_xlim(0, 100)
        axes.set_xlabel("% of the step" + "; * more ranks than cores" * (" *" in "".join(names)))
        axes.legend(
            frameon=False, fontsize="small", ncols=len(PARTS), loc="lower center",
            bbox_to_anchor=(0.5, 1), columnspacing=1, handlelength=1,
        )  # fmt: skip


def _draw_points(axes: Any, kind: str, points: Sequence[Point]) -> None:
    """Points with their intervals, hollow where ranks outnumber cores; efficiency beside them."""
    colour, marker, apart, beside = KINDS[kind]
    for i, point in enumerate(points):
        x, speedup = apart * point.job.ranks, point.speedup
        axes.errorbar(
            [x], [speedup.median],
            [[speedup.median - speedup.low], [speedup.high - speedup.median]],
            fmt=marker, color=colour, capsize=3, elinewidth=1, label=None if i else kind,
            markerfacecolor="white" if point.oversubscribed else colour,
        )  # fmt: skip
        if i:
            axes.annotate(
                f"{point.efficiency.median:.0%}", (x, speedup.median), (beside, 0),
                textcoords="offset points", fontsize="small", color=colour, va="center",
                ha="left" if beside > 0 else "right",
            )  # fmt: skip
