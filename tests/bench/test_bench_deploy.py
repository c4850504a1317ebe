"""The benchmark of trained networks: what it exports, scores and draws."""

import contextlib
import io
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from launcher import here, one_line
from predicting import some_weights

from dist_vgg.base.command_line import guarded
from dist_vgg.bench import __main__ as bench
from dist_vgg.bench.chart import draw
from dist_vgg.bench.frontier import Frontier, Point
from dist_vgg.formats.trained import load_network, round_weights
from dist_vgg.state.precision import PRECISIONS
from dist_vgg.state.weights import save_weights

WIDTHS = (0.05, 0.02)
QUICK = ("--repeat", "2", "--seconds", "0.01", "--kernels", "numpy")


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A file of weights, and a folder of a run."""
    folder = tmp_path_factory.mktemp("networks")
    (folder / "run").mkdir()
    paths = [folder / "a.h5", folder / "run"]
    for width, path in zip(WIDTHS, (folder / "a.h5", folder / "run" / "weights.h5"), strict=True):
        save_weights(path, some_weights(width=width))
    return paths


@pytest.fixture(scope="module")
def measured(
    networks: list[Path], data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, Any]]:
    """What the benchmark prints of both, and its JSON."""
    path, told = tmp_path_factory.mktemp("found") / "found.json", io.StringIO()
    words = [*networks, "--data", data, "--limit", 11, "--json", path, *QUICK]
    with contextlib.redirect_stdout(told):
        assert bench.main(["deploy", *map(str, words)]) == 0
    return told.getvalue(), json.loads(path.read_text())


def test_each_precision_is_the_file_that_export_writes(
    measured: tuple[str, dict[str, Any]], tmp_path: Path
) -> None:
    found = measured[1]["results"]["networks"]
    assert list(found) == ["width 0.02", "width 0.05"]  # the smallest first
    for width, one in zip(sorted(WIDTHS), found.values(), strict=True):
        weights = some_weights(width=width)
        net = load_network(weights, "numpy")
        for precision in PRECISIONS:
            exported = round_weights(weights, net, precision)
            save_weights(tmp_path / "x.h5", exported)
            assert one["files"][precision]["bytes"] == (tmp_path / "x.h5").stat().st_size
            assert one["files"][precision]["sha256"] == exported.sha256
        assert one["parameters"] == net.parameter_count


def test_the_score_is_that_of_evaluate(
    measured: tuple[str, dict[str, Any]], networks: list[Path], data: Path, tmp_path: Path
) -> None:
    path = tmp_path / "score.json"
    options = ("--data", data, "--limit", 11, "--kernels", "numpy", "--json", path)
    assert here("dist_vgg.evaluate", networks[0], *options)[0] == 0
    score = json.loads(path.read_text())
    found = measured[1]["results"]["networks"]["width 0.05"]["files"]["float32"]
    assert found["accuracy"] == score["accuracy"] == found["right"] / 11
    assert (found["total"], found["images"]) == (11, score["images"])
    assert found["dataset"] == score["dataset"]


def test_speed_is_measured_once_for_each_network(
    measured: tuple[str, dict[str, Any]], networks: list[Path]
) -> None:
    output, found = measured
    for one in found["results"]["networks"].values():
        assert len(one["images_per_s"]["values"]) == len(one["ms"]["values"]) == 2
        assert one["images_per_s"]["low"] > 0 and one["ms"]["low"] > 0
    assert found["results"]["kernels"] == "numpy"
    assert found["options"]["weights"] == list(map(str, networks))
    rows = [line for line in output.splitlines() if " of 11 " in line]
    # The spread of speed, low–high, is in the first row of a network only.
    assert [row.count("–") for row in rows] == [2, 0, 0] * 2
    assert "speed is measured once for each network" in output


def test_mistakes_are_one_line(
    networks: list[Path], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*words: object) -> str:
        status = guarded("dist_vgg.bench", lambda: bench.main(["deploy", *map(str, words)]))
        line = one_line(capsys.readouterr().err)
        assert status == 2
        return line

    weights = some_weights()
    save_weights(tmp_path / "i8.h5", round_weights(weights, load_network(weights), "int8"))
    assert f"{tmp_path / 'i8.h5'} holds int8 parameters; name the" in refused(tmp_path / "i8.h5")
    assert f"no weights {tmp_path / 'none.h5'}" in refused(networks[0], tmp_path / "none.h5")
    save_weights(tmp_path / "64.h5", some_weights(size=64))
    # It is evaluate that says so, in a process of its own.
    wrong = refused(tmp_path / "64.h5", "--data", data, *QUICK)
    assert f"the weights are for size 64 and {data} has size 32" in wrong
    assert "required: WEIGHTS" in refused()


def frontier(errors: dict[str, float]) -> Frontier:
    """Networks of VGG16's sizes, each of an error in per cent, a little more in int8."""
    networks = {}
    for label, error in errors.items():
        parameters = 39.9e6 * float(label.split()[1]) ** 2
        networks[label] = {
            name: Point(round(parameters * size), round(100 * error) + (size == 1), 10_000)
            for name, size in zip(PRECISIONS, (4, 2, 1), strict=True)
        }
    return Frontier(networks, "10,000 test images")


@pytest.mark.parametrize(
    "errors", [(0.68, 0.45, 0.34, 0.28), (0.5, 0.41, 0.4, 0.42), (9.0, 2.0, 1.0, 0.0), (0.7,)]
)
def test_the_picture_has_its_words_apart(errors: tuple[float, ...], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed; it only draws")
    from matplotlib import pyplot

    widths = ("width 0.125", "width 0.25", "width 0.5", "width 1")
    picture = frontier(dict(zip(widths, errors, strict=False)))
    draw(tmp_path / "x.png", picture, "a machine")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    figure, axes = pyplot.subplots(figsize=(9, picture.height), layout="constrained")
    picture.draw(axes)
    figure.canvas.draw()
    boxes = [words.get_window_extent() for words in axes.texts]
    boxes.append(axes.get_legend().get_window_extent())
    boxes += [words.get_window_extent() for words in (*axes.get_xticklabels(), axes.xaxis.label)]
    points = [axes.transData.transform(xy) for line in axes.lines for xy in line.get_xydata()]
    pyplot.close(figure)
    assert len(axes.texts) == len(errors)
    assert not any(box.contains(*point) for box in boxes for point in points)
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
