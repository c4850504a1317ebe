"""The picture of a sweep: the training loss of every variant by epoch."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from dist_vgg.base.files import written_beside
from dist_vgg.sweep.results import Result
from dist_vgg.sweep.variants import Axis, combine, label

# Okabe and Ito's colours, which colour-blind people tell apart, too; yellow is too pale on white.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
STYLES = ["solid", "dashed", "dotted", "dashdot"]


def plot_losses(path: Path, results: Sequence[Result], axes: Sequence[Axis]) -> None:
    """Draw a line for each variant, the mean over its seeds, in a band of their range.

    `axes` are those of `parse_axes`; they decide how the lines look.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator

    losses: dict[str, list[list[float]]] = {}
    for one in results:
        losses.setdefault(label(one["variant"]), []).append(one["loss"])
    looks = line_looks(axes)
    palette = _palette(1 + max(colour for colour, _ in looks.values()))
    figure, plot = pyplot.subplots(figsize=(9, 4.5), layout="constrained")
    for name, (colour, style) in looks.items():
        if name in losses:  # or all of its runs have diverged
            _draw_variant(plot, name, losses[name], palette[colour], STYLES[style])
    plot.xaxis.set_major_locator(MaxNLocator(integer=True))
    plot.set_xlabel("epoch")
    # Not from zero: label smoothing keeps losses far above it, and the curves would be flat.
    plot.set_ylabel("training loss")
    plot.spines[["top", "right"]].set_visible(False)
    # Beside the curves, where it hides none; its lines are long enough to show how they are dashed.
    figure.legend(loc="outside right upper", frameon=False, fontsize="small", handlelength=3)
    with written_beside(path) as beside:
        figure.savefig(beside, format=path.suffix[1:], dpi=150, bbox_inches="tight")
    pyplot.close(figure)


def line_looks(axes: Sequence[Axis]) -> dict[str, tuple[int, int]]:
    """The numbers of a colour and a line style for each variant, by label; no two are alike.

    Where several axes vary, styles tell apart the choices of the last one for which they suffice,
    and colours those of the others; where one varies, colours do. Variants of the same colour
    follow each other.
    """
    varied = [place for place, axis in enumerate(axes) if len(axis) > 1]
    fit = [place for place in varied if len(axes[place]) <= len(STYLES)]
    styled = fit[-1] if fit and len(varied) > 1 else None
    colours: dict[tuple[int, ...], int] = {}
    looks: dict[str, tuple[int, int]] = {}
    for numbers in itertools.product(*(range(len(axis)) for axis in axes)):
        others = tuple(number for place, number in enumerate(numbers) if place != styled)
        colour = colours.setdefault(others, len(colours))
        variant = combine([axis[number] for axis, number in zip(axes, numbers, strict=True)])
        looks[label(variant)] = colour, 0 if styled is None else numbers[styled]
    return dict(sorted(looks.items(), key=lambda item: item[1]))


def _palette(count: int) -> list[Any]:
    """So many different colours."""
    import matplotlib

    if count <= len(COLOURS):
        return list(COLOURS)
    # A scale has as many as are wanted; its pale end is left out.
    scale = matplotlib.colormaps["viridis"]
    return [scale(0.9 * number / (count - 1)) for number in range(count)]


def _draw_variant(
    plot: Any, name: str, losses: Sequence[Sequence[float]], colour: Any, style: str
) -> None:
    """Draw the mean of several runs' losses, and their range, as far as all runs go."""
    epochs = range(1, 1 + min(map(len, losses)))
    by_epoch = list(zip(*losses, strict=False))
    low, high = list(map(min, by_epoch)), list(map(max, by_epoch))
    plot.plot(epochs, list(map(mean, by_epoch)), label=name, color=colour, linestyle=style)
    plot.fill_between(epochs, low, high, color=colour, alpha=0.15, linewidth=0)
