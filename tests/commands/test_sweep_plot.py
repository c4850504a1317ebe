"""The picture of a sweep."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from dist_vgg.sweep.plot import line_looks, plot_losses
from dist_vgg.sweep.variants import combinations, parse_axes


def test_two_options_that_vary_are_colours_and_styles() -> None:
    together = "optimizer/lr=sgd/0.02,adam/2e-4,adagrad/1e-3"
    assert line_looks(parse_axes([together, "dropout=0.5,0"])) == {
        "optimizer sgd, lr 0.02, dropout 0.5": (0, 0),
        "optimizer sgd, lr 0.02, dropout 0": (0, 1),
        "optimizer adam, lr 2e-4, dropout 0.5": (1, 0),
        "optimizer adam, lr 2e-4, dropout 0": (1, 1),
        "optimizer adagrad, lr 1e-3, dropout 0.5": (2, 0),
        "optimizer adagrad, lr 1e-3, dropout 0": (2, 1),
    }
    # One has colours alone, and what does not vary has no say.
    one = {"ema 0, lr 1": (0, 0), "ema 0, lr 2": (1, 0)}
    assert line_looks(parse_axes(["ema=0", "lr=1,2"])) == one
    assert list(line_looks(parse_axes([together])).values()) == [(0, 0), (1, 0), (2, 0)]
    assert line_looks([]) == {"as given": (0, 0)}
    # Too many values for styles: another option has those, and pairs come together all the same.
    found = line_looks(parse_axes(["dropout=0.5,0", "lr=1,2,3,4,5"]))
    assert list(found)[:2] == ["dropout 0.5, lr 1", "dropout 0, lr 1"]
    assert found["dropout 0, lr 5"] == (4, 1)


@pytest.mark.parametrize(
    "given",
    [
        ["lr=1,2,3", "dropout=0,0.5"],
        ["lr=1,2,3,4,5,6,7,8,9,10"],
        ["lr=1,2,3,4,5,6,7", "seed=1,2,3,4,5", "dropout=0,0.5"],
        ["lr=1,2,3,4,5", "dropout=0,0.1,0.2,0.3,0.4"],
    ],
)
def test_no_two_lines_of_a_picture_look_alike(given: list[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = [dict(variant=variant, loss=[2.3, 0.6]) for variant in combinations(parse_axes(given))]
    lines = drawn(tmp_path / "loss.png", found, given).axes[0].get_lines()
    assert len(lines) == len(found)
    seen = {(to_hex(line.get_color()), line.get_linestyle()) for line in lines}
    assert len(seen) == len(lines)


def to_hex(colour: object) -> str:
    from matplotlib import colors

    return colors.to_hex(colour)  # type: ignore[arg-type]


def drawn(path: Path, found: Sequence[Mapping[str, Any]], given: Sequence[str]) -> Any:
    """The figure that `plot_losses` has written."""
    from matplotlib import pyplot

    figures: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pyplot, "close", figures.append)
        plot_losses(path, found, parse_axes(given))
    pyplot.close(figures[0])
    assert path.read_bytes().startswith(b"\x89PNG")
    return figures[0]


def test_the_picture_has_a_line_for_each_variant(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    losses = [("1", [2.0, 1.0]), ("1", [3.0, 2.0, 1.0]), ("2", [2.5, 2.4, 2.3])]
    found = [dict(variant={"lr": lr}, loss=loss) for lr, loss in losses]
    figure = drawn(tmp_path / "loss.png", found, ["lr=1,2,3"])
    lines = figure.axes[0].get_lines()
    # None is left of the third, whose runs have diverged.
    assert [line.get_label() for line in lines] == ["lr 1", "lr 2"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["lr 1", "lr 2"]
    assert lines[0].get_ydata().tolist() == [2.5, 1.5]  # one of its runs ended early


def test_the_losses_fill_the_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = [dict(variant={}, loss=[2.3, 1.0, 0.5]), dict(variant={}, loss=[2.4, 1.2, 0.52])]
    low, high = drawn(tmp_path / "loss.png", found, []).axes[0].get_ylim()
    assert low < 0.5 < 2.4 < high
    assert (2.4 - 0.5) / (high - low) > 0.85
