"""What predict takes for weights, and those that it takes where none are named."""

import json
from pathlib import Path

import pytest
from drawings import seven
from PIL import Image
from predicting import refused

from dist_vgg import predict
from dist_vgg.predict import main


@pytest.fixture
def digit(tmp_path: Path) -> Path:
    path = tmp_path / "digit.png"
    Image.fromarray(seven()).save(path)
    return path


@pytest.mark.parametrize("option", [(), ("--json",)])
def test_a_picture_alone_is_for_the_network_that_is_installed(
    option: tuple[str, ...],
    weights: Path,
    digit: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([str(weights), str(digit), *option]) == 0
    expected, errors = capsys.readouterr()
    assert errors == ""
    monkeypatch.setattr(predict, "SHIPPED", weights)
    assert main([str(digit), *option]) == 0
    output, errors = capsys.readouterr()
    assert output == expected
    assert errors == (
        f"dist_vgg.predict: weights: {weights} (vgg16 of width 0.05, trained on mnist, float32, "
        f"parameters {'cd' * 8})\n"
    )


def test_a_file_of_weights_is_known_by_its_content(
    weights: Path, digit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.png"
    path.write_bytes(weights.read_bytes())
    assert main([str(path), str(digit), "--json"]) == 0
    output, errors = capsys.readouterr()
    assert [each["image"] for each in json.loads(output)] == [str(digit)]
    assert errors == ""


@pytest.mark.parametrize("name", ["typo.h5", "runs/typo", "runs/lr-0.05"])
def test_weights_that_are_not_there(name: str, digit: Path, tmp_path: Path) -> None:
    for images in ([digit], []):
        line = refused(tmp_path / name, *images)
        assert line.startswith(f"no weights {tmp_path / name}; ")


def test_weights_without_a_picture(weights: Path) -> None:
    for path in (weights, weights.parent):
        assert refused(path) == f"{path} is no picture but weights; name the pictures behind it"
    assert refused().startswith("the following arguments are required: [WEIGHTS] IMAGE")


def test_a_first_picture_that_is_not_there_is_no_network(
    weights: Path, digit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "SHIPPED", weights)
    monkeypatch.setattr(predict, "tell", lambda words: told.append(words))
    told: list[str] = []
    gone = tmp_path / "gone.JPG"
    assert main([str(gone), str(digit)]) == 2
    line = f"can't read the image {gone}: No such file or directory"
    assert told[1:] == [f"dist_vgg.predict: error: {line}"]
