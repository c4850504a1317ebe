"""How readings are taken, in turns, and shown."""

from pathlib import Path

import pytest

from dist_vgg.bench import comparison
from dist_vgg.bench.chart import Chart, draw
from dist_vgg.bench.readings import Readings


def test_each_round_begins_with_another_contender(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(comparison, "result_of", lambda name, command: {"of": name})
    commands: dict[str, list[str]] = {"a": [], "b": [], "c": []}
    found = comparison.in_turns(commands, 4, lambda name, result: order.append(name))
    assert "".join(order) == "abcbcacababc"
    assert all(results == [{"of": name}] * 4 for name, results in found.items())


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ((25.06, 24, 26.04), "25.1 (24.0–26.0)"),
        ((1234.5,), "1,234 (1,234–1,234)"),
        ((0.01234, 0.01), "0.0112 (0.0100–0.0123)"),
        ((0,), "0.00 (0.00–0.00)"),
    ],
)
def test_readings(values: tuple[float, ...], shown: str) -> None:
    assert str(Readings.of(values)) == shown


def test_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed; it only draws")
    chart = Chart("Title", "ms")
    chart.add("one", "ours", Readings.of([1, 2, 3]))
    chart.add("one", "theirs", Readings.of([4]))
    chart.add("two", "ours", Readings.of([2]))
    draw(tmp_path / "x.png", chart, "a machine")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 1
