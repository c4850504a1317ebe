"""Odd folders of pictures: each becomes shards, or is refused in one clear line."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from classes import CLASSES, draw, write_classes, write_splits
from PIL import Image
from preparing import Run, everything

from data_prep.folder import shown
from dist_vgg.data.dataset import check_set, open_set

pytestmark = pytest.mark.usefixtures("quick_disk")
SMALL = ("--source", "images", "--size", 32, "--shards", 2)
Make = Callable[[Path], object]


def named(name: str) -> Make:
    """A class with another name."""
    return lambda raw: (raw / "cat").rename(raw / name)


def file_named(name: str) -> Make:
    return lambda raw: (raw / "cat" / "1.png").rename(raw / "cat" / name)


def content(data: bytes) -> Make:
    """A picture with another content."""
    return lambda raw: (raw / "cat" / "1.png").write_bytes(data)


def link(path: str, to: str) -> Make:
    def make(raw: Path) -> None:
        (raw / path).unlink(missing_ok=True)
        (raw / path).symlink_to(to)

    return make


def empty_classes(count: int) -> Make:
    return lambda raw: [(raw / f"class {number}").mkdir() for number in range(count)]


def emptied(folder: Path, keep: int) -> None:
    for path in sorted(folder.iterdir())[keep:]:
        path.unlink()


def picture(size: tuple[int, int], mode: str = "RGB") -> Make:
    return lambda raw: Image.new(mode, size).save(raw / "cat" / "1.png")


def away(*names: str) -> Make:
    return lambda raw: [(raw / name).rename(raw.parent / name) for name in names]


def nested(raw: Path) -> None:
    (raw / "cat" / "a" / "b.png").mkdir(parents=True)
    draw(1).save(raw / "cat" / "a" / "b.png" / "c.png")


def a_socket(raw: Path) -> None:
    with socket.socket(socket.AF_UNIX) as it:
        here = Path.cwd()
        os.chdir(raw)  # a socket's path may have 107 bytes
        it.bind("cat/a")
        os.chdir(here)


def cut(raw: Path) -> None:
    path = raw / "cat" / "1.png"
    path.write_bytes(path.read_bytes()[:-40])


def jpeg_in_png_clothing(raw: Path) -> None:
    draw(1).save(raw / "cat" / "1.png", "JPEG")


BAD, NOT_PRINTABLE = "1.png: no image that Pillow can read; mend", "has no printable name; rename"
# What is odd about a folder of classes, and the words that refuse it; "" where it is fine.
ODD: dict[str, tuple[Make, str]] = {
    **{
        f"class {name!a}": (named(name), "")
        for name in (
            " ü ☃ ",
            "a b",
            "-x",
            "--raw",
            "..a",
            "x.",
            "%s{}",
            "a\\b",
            "'\"",
            "0",
            "大" * 80,
            "é",
        )
    },
    **{
        f"class {name!a}": (named(name), NOT_PRINTABLE)
        for name in ("a\nb", "\t", "\x1b[2J", "a\udc80", "\u202ea", "\r", "\xa0")
    },
    **{
        f"file {name!a}": (file_named(name), "")
        for name in ("a b.PNG", "\n\udc80.png", "png", "-.png", "x" * 255, "1.jpg", "\x1b[2J")
    },
    **{
        f"content {data[:9]!r}": (content(data), BAD)
        for data in (
            b"",
            b"x",
            b"<html>",
            b"%PDF-1.4",
            b"%!PS-Adobe-3.0 EPSF",
            b"RIFF",
            bytes(9000),
        )
    },
    "cut": (cut, "1.png: image file is truncated; mend or remove"),
    "too many pixels": (picture((6000, 6000), "1"), "1.png: 6000 x 6000 pixels are more than"),
    "JPEG under the name of a PNG": (jpeg_in_png_clothing, ""),
    "a pixel": (picture((1, 1)), ""),
    "a strip": (picture((5000, 1), "L"), ""),
    "a column": (picture((1, 5000), "LA"), ""),
    "a pipe": (lambda raw: os.mkfifo(raw / "cat/a"), "cat/a: it is no file; mend or remove"),
    "a socket": (a_socket, "cat/a: it is no file; mend or remove"),
    "hidden class": (lambda raw: (raw / ".git").mkdir(), ""),
    "stray file": (lambda raw: (raw / "labels.csv").write_text("x"), ""),
    "folders in a class": (nested, ""),
    "many folders in each other": (
        lambda raw: (raw / "cat" / "/".join("d" * 60)).mkdir(parents=True),
        "more than 50",
    ),
    "link within": (link("cat/z.png", "../dog/1.png"), ""),
    "link out": (link("cat/1.png", "/etc/passwd"), "1.png is a link out"),
    "link upwards": (link("cat/1.png", "../../../x"), "1.png is a link out"),
    "broken link within": (link("cat/1.png", "gone"), "1.png: No such file or directory; mend"),
    "link to itself": (link("cat/1.png", "1.png"), "1.png: "),
    "link to a folder": (link("bird", "cat"), "bird is a link to a folder"),
    "link to a folder above": (link("cat/up", ".."), "up is a link to a folder"),
    "empty class": (lambda raw: (raw / "bird").mkdir(), "no training images of the class bird"),
    "class of hidden files": (
        lambda raw: [p.rename(p.with_name(f".{p.name}")) for p in (raw / "cat").iterdir()],
        "no training images of the class cat; add some",
    ),
    "one picture": (lambda raw: emptied(raw / "cat", 1), "no training images of the class cat"),
    "two pictures": (lambda raw: emptied(raw / "cat", 2), ""),
    "one class": (away(*CLASSES[1:]), "has only the class cat; put pictures into a folder per"),
    "no class": (away(*CLASSES), "has no folders of classes; put pictures into a folder per class"),
    "1,001 classes": (empty_classes(998), "has 1,001 classes; a network has at most 1,000"),
    "10,000 classes": (empty_classes(9997), "has 10,000 classes; a network has at most 1,000"),
    "long names": (
        lambda raw: [(raw / f"{number:0>240}").mkdir() for number in range(200)],
        "take more than 40,000 bytes",
    ),
    "a class called train": (named("train"), ""),
    "classes called train and test": (
        lambda raw: [named("train")(raw), (raw / "dog").rename(raw / "test")],
        "has a test folder; leave out --test-share",
    ),
}


def test_there_are_enough() -> None:
    assert len(ODD) + len(SPLITS) >= 64


@pytest.mark.parametrize("what", ODD)
def test_odd_folders(run: Run, tmp_path: Path, what: str) -> None:
    raw = write_classes(tmp_path / "raw")
    make, words = ODD[what]
    make(raw)
    options = (*SMALL, "--raw", raw, "--test-share", 0.3, "--out", tmp_path / "out")
    status, _, error = run(*options)
    assert status == (2 if words else 0), error
    assert words in error.splitlines()[-1]
    assert error.splitlines()[-1].isprintable() and "Traceback" not in error
    assert (tmp_path / "out").exists() is not bool(words)


SPLITS: dict[str, tuple[Make, str]] = {
    "class of train only": (
        lambda raw: write_classes(raw / "train", ("bird", "cow")),
        "train has the class bird and 1 others, which",
    ),
    "class of test only": (
        lambda raw: write_classes(raw / "test", ("bird",)),
        "test has the class bird, which",
    ),
    "no test": (
        lambda raw: (raw / "test").rename(raw / "val"),
        "has no folders train and test; if",
    ),
    "no test images": (
        lambda raw: emptied(raw / "test" / "dog", 0),
        "has no test images of the class dog; add some",
    ),
    "test elsewhere": (
        lambda raw: [(raw / "test").rename(raw.parent / "x"), (raw / "test").symlink_to("../x")],
        "test is a link to a folder; put a copy in its place",
    ),
    "other case": (
        lambda raw: (raw / "test" / "cat").rename(raw / "test" / "Cat"),
        "train has the class cat, which",
    ),
}


@pytest.mark.parametrize("what", SPLITS)
def test_splits_that_do_not_fit(run: Run, tmp_path: Path, what: str) -> None:
    raw = write_splits(tmp_path / "raw")
    make, words = SPLITS[what]
    make(raw)
    status, _, error = run(*SMALL, "--raw", raw, "--out", tmp_path / "out")
    assert status == 2
    assert words in error and error.count("\n") == 1


def test_a_class_of_bad_pictures_only(run: Run, tmp_path: Path) -> None:
    raw = write_splits(tmp_path / "raw")
    for path in (raw / "test" / "dog").iterdir():
        path.write_text("x")
    status, _, error = run(*SMALL, "--raw", raw, "--skip-bad", "--out", tmp_path / "out")
    assert status == 2
    assert "none of the test pictures of the class dog can be read" in error


def test_300_classes(run: Run, tmp_path: Path) -> None:
    names = tuple(f"{number:03}" for number in range(300))
    for split in ("train", "test"):
        write_classes(tmp_path / "raw" / split, names, 1, "bmp")
    assert run(*SMALL, "--raw", tmp_path / "raw", "--out", tmp_path / "out")[0] == 0
    assert open_set(tmp_path / "out").class_names == names
    labels = everything(tmp_path / "out")["test"].labels
    assert labels.dtype == np.uint16
    assert labels.tolist() == list(range(300))
    list(check_set(tmp_path / "out"))


def test_a_path_is_shown_on_one_line() -> None:
    assert shown(Path("a\nb\udc80/ü")) == "a\\nb\\udc80/ü"
