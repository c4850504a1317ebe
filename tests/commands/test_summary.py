"""The table of layers."""

import pytest

from dist_vgg.base.errors import UserError
from dist_vgg.summary import main


def shown(
    capsys: pytest.CaptureFixture[str], *argv: str
) -> tuple[dict[str, list[str]], dict[str, int]]:
    """The columns of each layer's line, and the totals."""
    assert main(argv) == 0
    table, totals = capsys.readouterr().out.replace(",", "").split("\n\n")
    rows = {line.split()[0]: line.split()[1:] for line in table.splitlines()}
    assert rows.pop("layer") == ["output", "parameters", "bytes", "activations", "multiply-adds"]
    return rows, {line[:20].strip(): int(line[20:].split()[0]) for line in totals.splitlines()}


@pytest.mark.parametrize(
    ("argv", "parameters", "multiply_adds"),
    [
        ([], 39_928_522, 1_273_274_368),
        # The paper's network: both numbers are those commonly given for it.
        (["--size=224", "--channels=3", "--classes=1000"], 138_357_544, 15_470_264_320),
        (
            ["--network=vgg11", "--size=224", "--channels=3", "--classes=1000"],
            132_863_336,
            7_609_090_048,
        ),
    ],
)
def test_totals_are_right_and_the_sums_of_their_columns(
    capsys: pytest.CaptureFixture[str], argv: list[str], parameters: int, multiply_adds: int
) -> None:
    rows, totals = shown(capsys, *argv)
    assert totals["Total Parameters"] == parameters
    assert totals["Multiply-adds"] == multiply_adds
    names = ("Total Parameters", "bytes", "Activations bytes", "Multiply-adds")
    for column, name in enumerate(names, start=1):
        assert sum(int(row[column]) for row in rows.values()) == totals[name]


def test_a_line_for_each_layer(capsys: pytest.CaptureFixture[str]) -> None:
    rows, _ = shown(capsys)
    assert list(rows)[:4] == ["input", "conv1_1", "conv1_2", "pool1"]
    assert len(rows) == 32
    assert rows["conv1_2"] == ["64x64x64", "36928", "147712", "1048576", str(9 * 64 * 64 * 4096)]
    assert rows["pool5"] == ["2x2x512", "0", "0", "8192", "0"]
    assert rows["fc6"] == ["4096", "8392704", "33570816", "16384", "8388608"]


def test_width(capsys: pytest.CaptureFixture[str]) -> None:
    rows, _ = shown(capsys, "--width", "0.5", "--size", "96")
    assert rows["conv1_1"][0] == "96x96x32"
    assert rows["fc7"][0] == "2048"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--size", "65"], "--size 65: it must be a multiple of 32, such as 64"),
        (["--size", "0"], "--size 0: it must be a multiple of 32"),
        (["--size", "-64"], "--size -64: it must be a multiple of 32"),
        (["--size", "x"], "argument --size: invalid int value: 'x'"),
        (["--channels", "0"], "--channels 0 is out of range"),
        (["--classes", "-1"], "--classes -1 is out of range"),
        (["--width", "0"], "--width 0.0 is out of range"),
        (["--width", "nan"], "--width nan is out of range"),
        (["--width", "inf"], "--width inf is out of range"),
        (["--network", "vgg12"], "argument --network: invalid choice: 'vgg12'"),
        (["--sizes", "64"], "unrecognized|unknown option --sizes; did you mean --size"),
    ],
)
def test_mistakes(argv: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        main(argv)
    assert "\n" not in str(raised.value)
