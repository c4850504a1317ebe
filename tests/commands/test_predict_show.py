"""What predict --show draws: the digits that it found, with their names."""

from pathlib import Path

import numpy as np
import pytest
from drawings import alike, seven
from PIL import Image, ImageOps
from predicting import answer, refused, three

from dist_vgg.data.contact_sheet import CELL, GAP, fit
from dist_vgg.data.digit import like_mnist
from dist_vgg.data.pictures import light_on_dark, read_picture
from dist_vgg.predict import NO_DIGIT, main


def test_show(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digit, text, empty = three(tmp_path)
    shown = tmp_path / "shown.png"
    assert main([str(weights), "--show", str(shown), str(digit), str(text), str(empty)]) == 2
    with Image.open(shown) as image:
        pixels = np.asarray(image.convert("L"), int)
        assert image.format == "PNG"
    # Two cells beside each other for every image: the 7 as it is, and light on black.
    across, top = 2 * (CELL + GAP) + GAP, slice(GAP, GAP + CELL)
    cells = [pixels[top, x : x + CELL] for x in (GAP, CELL + 2 * GAP, across + GAP)]
    with Image.open(digit) as image:
        given = np.asarray(ImageOps.contain(image, (CELL, CELL)), int)
    margin = (CELL - given.shape[1]) // 2
    assert np.abs(cells[0][:, margin : margin + given.shape[1]] - given).max() <= 1
    expected = like_mnist(light_on_dark(read_picture(digit)))
    assert expected is not None
    enlarged = np.asarray(expected.resize((CELL, CELL), Image.Resampling.BICUBIC))
    assert alike(Image.fromarray(cells[1].astype(np.uint8)), enlarged) > 0.95
    assert (cells[2][2:-2, 2:-2] == 64).all()  # nothing of the file that is no image
    assert pixels.shape[1] == 3 * across + GAP
    captions = pixels[GAP + CELL + 1 : -GAP]
    assert all((captions[:, x : x + CELL] > 200).any() for x in (GAP, across, 2 * across))


def test_a_strip_keeps_nobody_from_being_predicted(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(Image.new("L", (1000, 3))).size == (CELL, 1)  # Pillow's own way comes to 0
    paths = [tmp_path / "wide.png", tmp_path / "high.png", *three(tmp_path)[:1]]
    for path, size in zip(paths, [(1000, 3), (3, 1000)], strict=False):
        Image.new("L", size, 200).save(path)
    assert main([str(weights), "--show", str(tmp_path / "shown.png"), *map(str, paths)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.endswith(NO_DIGIT) for line in lines] == [True, True, False]


def test_show_that_can_not_be_written(weights: Path, tmp_path: Path) -> None:
    digit = three(tmp_path)[0]
    assert refused(weights, digit, "--show", "a.jpg") == "--show a.jpg: name a .png file"
    path = tmp_path / "gone" / "a.png"
    line = refused("no-weights", digit, "--show", path)  # before anything else is looked at
    assert line.startswith(f"can't write --show {path}: No such file or directory")


def test_many_names_in_a_show(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / f"{'ü☃' * 40}{n}.png" for n in range(5)]
    for path in paths:
        Image.fromarray(seven()).save(path)
    shown = tmp_path / "shown.png"
    answer(capsys, weights, *paths, "--show", shown)
    with Image.open(shown) as image:
        assert image.size == (
            3 * (2 * (CELL + GAP) + GAP) + GAP,
            2 * (CELL + 2 * 13 + 2 * GAP) + GAP,
        )
