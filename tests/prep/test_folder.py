"""Folders of pictures become shards: classes, splits, formats, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from classes import CLASSES, draw, write_classes, write_splits
from PIL import Image
from preparing import Run, everything

from data_prep import folder
from dist_vgg.data.dataset import check_set, open_set
from dist_vgg.data.pictures import network_pixels, read_image

pytestmark = pytest.mark.usefixtures("quick_disk")
SMALL = ("--source", "images", "--size", 32, "--shards", 2)


def test_train_and_test_folders(run: Run, tmp_path: Path) -> None:
    raw = write_splits(tmp_path / "raw")
    for junk in (raw / "train" / "cat" / ".hidden", raw / "test" / "cat" / "Thumbs.db"):
        junk.write_text("x")
    status, out, _ = run(*SMALL, "--raw", raw, "--out", tmp_path / "out")
    assert status == 0
    info = open_set(tmp_path / "out")
    assert (info.train_count, info.test_count, info.channels) == (12, 6, 3)
    assert info.class_names == tuple(sorted(CLASSES))
    assert info.preparation == "crop"
    assert "classes  3: a fish, cat, dog" in out
    assert len(info.mean) == 3
    splits = everything(tmp_path / "out")
    for split, form, count in (("train", "png", 4), ("test", "jpg", 2)):
        samples = splits[split]
        assert samples.ids.tolist() == list(range(3 * count))
        for row, (pixels, label) in enumerate(zip(samples.pixels, samples.labels, strict=True)):
            path = raw / split / info.class_names[label] / f"{row % count}.{form}"
            expected = network_pixels(read_image(path), 32, 3, "crop")
            np.testing.assert_array_equal(pixels, expected)
    list(check_set(tmp_path / "out"))
    assert "nothing to do" in run(*SMALL, "--raw", raw, "--out", tmp_path / "out")[1]
    draw(999).save(raw / "train" / "cat" / "0.png")
    assert "holds other shards (raw " in run(*SMALL, "--raw", raw, "--out", tmp_path / "out")[2]


def test_a_share_of_each_class_is_for_the_test(run: Run, tmp_path: Path) -> None:
    raw = write_classes(tmp_path / "raw", count=10)
    (raw / "cat" / "more").mkdir()
    draw(5).save(raw / "cat" / "more" / "one.png")
    options = (*SMALL, "--raw", raw, "--test-share", 0.2, "--channels", 1, "--held-out", 3)
    assert run(*options, "--out", tmp_path / "out")[0] == 0
    splits = everything(tmp_path / "out")
    assert [len(splits[split]) for split in ("train", "test", "held-out")] == [22, 6, 3]
    assert sorted(i for part in splits.values() for i in part.ids) == list(range(31))
    assert np.bincount(splits["test"].labels).tolist() == [2, 2, 2]
    assert splits["train"].pixels.shape[3] == 1
    request = json.loads(open_set(tmp_path / "out").request)
    assert (request["test-share"], request["held-out"], request["channels"]) == (0.2, 3, 1)


@pytest.mark.parametrize("form", ["png", "jpg", "webp", "tiff", "bmp", "gif", "ppm"])
def test_formats(run: Run, tmp_path: Path, form: str) -> None:
    for split in ("train", "test"):
        raw = write_classes(tmp_path / "raw" / split, count=2, form=form).parent
    assert run(*SMALL, "--raw", raw, "--out", tmp_path / "out")[0] == 0
    first = everything(tmp_path / "out")["train"].pixels[0].astype(int)
    with Image.open(raw / "train" / "a fish" / f"0.{form}") as image:
        expected = network_pixels(image.convert("RGB"), 32, 3, "crop")
    assert np.abs(first - expected).max() == 0


def rotated(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # show it rotated by 90 degrees clockwise
    image = Image.new("RGB", (40, 30), "blue")
    image.paste((255, 0, 0), (0, 0, 40, 10))  # above; shown, on the right
    image.save(path, exif=exif)


def transparent(path: Path) -> None:
    image = Image.new("RGBA", (32, 32), (255, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 16, 32))
    image.save(path)


def palette(path: Path) -> None:
    image = Image.new("P", (32, 32), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.save(path, transparency=0)


# What is saved, and the colours that are to be found on the left and on the right.
PICTURES: dict[str, tuple[Callable[[Path], None], str, list[int], list[int]]] = {
    "exif": (rotated, "png", [0, 0, 255], [255, 0, 0]),
    "alpha": (transparent, "png", [0, 0, 0], [255, 255, 255]),
    "palette": (palette, "png", [0, 0, 255], [0, 0, 255]),
    "16 bits": (
        lambda path: Image.fromarray(np.full((32, 32), 100 * 257, np.uint16)).save(path),
        "png",
        [100, 100, 100],
        [100, 100, 100],
    ),
    "faint 16 bits": (  # not stretched by its own range
        lambda path: Image.fromarray(np.arange(1024, dtype=np.uint16).reshape(32, 32)).save(path),
        "tiff",
        [2, 2, 2],
        [2, 2, 2],
    ),
    "cmyk": (
        lambda path: Image.new("CMYK", (32, 32), (0, 255, 255, 0)).save(path, quality=95),
        "jpg",
        [254, 0, 0],
        [254, 0, 0],
    ),
    "one bit": (
        lambda path: Image.new("1", (32, 32), 1).save(path),
        "png",
        [255, 255, 255],
        [255, 255, 255],
    ),
}


@pytest.mark.parametrize("what", PICTURES)
def test_pictures_of_all_kinds_are_as_people_see_them(tmp_path: Path, what: str) -> None:
    save, form, left, right = PICTURES[what]
    path = tmp_path / f"a.{form}"
    save(path)
    pixels = network_pixels(read_image(path), 32, 3, "stretch").astype(int)
    assert np.abs(pixels[16, 1] - left).max() <= 2
    assert np.abs(pixels[16, -2] - right).max() <= 2


def test_how_a_picture_becomes_a_square() -> None:
    image = Image.new("RGB", (96, 32), "red")
    image.paste((0, 0, 255), (32, 0, 64, 32))
    crop, pad, stretch = (
        network_pixels(image, 32, 3, fit).astype(int) for fit in ("crop", "pad", "stretch")
    )
    assert (crop[:, 4:-4] == [0, 0, 255]).all()
    assert (pad[0] == 0).all() and (pad[16, 1] == [255, 0, 0]).all()
    assert np.abs(pad[16, 16] - [0, 0, 255]).max() < 10
    assert (stretch[:, 1] == [255, 0, 0]).all() and (stretch[:, 16] == [0, 0, 255]).all()
    for size in ((1000, 1), (1, 1000)):
        for fit in ("crop", "pad", "stretch"):
            assert network_pixels(Image.new("L", size), 32, 1, fit).shape == (32, 32, 1)


def test_a_bad_picture_is_named_or_left_out(run: Run, tmp_path: Path) -> None:
    raw = write_classes(tmp_path / "raw", count=10)
    bad = raw / "dog" / "3.png"
    bad.write_bytes(bad.read_bytes()[:300])
    (raw / "cat" / "notes.txt").write_text("x")
    options = (*SMALL, "--raw", raw, "--test-share", 0.2, "--out", tmp_path / "out")
    status, _, error = run(*options)
    assert status == 2
    assert not (tmp_path / "out").exists()
    line = error.splitlines()[-1]
    assert f"can't use {bad}: image file is truncated; mend or remove it, or leave such" in line
    status, _, error = run(*options, "--skip-bad")
    assert status == 0
    (line,) = [line for line in error.splitlines() if line.startswith("left out 2 bad pictures: ")]
    assert str(bad) in line
    info = open_set(tmp_path / "out")
    assert info.train_count + info.test_count == 29
    list(check_set(tmp_path / "out"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--source images", "--source images needs --raw DIR, which has the images"),
        ("--source images --raw gone", "--raw gone is not a folder; name one with a folder per"),
        ("--source images --raw raw --test-share 0.5", "has a test folder; leave out --test-share"),
        ("--source images --raw raw --test-share 1", "must be a number between 0 and 1, not 1"),
        ("--source images --raw raw --test-share nan", "must be a number between 0 and 1, not nan"),
        ("--test-share 0.5", "--test-share is for --source images"),
        ("--skip-bad", "--skip-bad is for --source images"),
        ("--source images --raw raw --channels 2", "argument --channels: invalid choice: 2"),
        ("--source images --raw raw --fit digit", "argument --fit: invalid choice: 'digit'"),
    ],
)
def test_mistakes(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_splits(tmp_path / "raw")
    status, _, error = run(*words.split())
    assert status == 2
    assert expected in error and error.count("\n") == 1


def test_300_classes_have_wide_labels(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number:03}").mkdir()
        for name in ("a", "b"):
            (tmp_path / f"{number:03}" / name).write_text("")
    raw = folder.load(tmp_path, 0.5, 0)
    assert raw.classes == 300
    assert raw.labels["train"].dtype == np.uint16
    assert sorted(raw.labels["train"]) == list(range(300))
    assert raw.digest() != folder.load(tmp_path, 0.5, 1).digest()
