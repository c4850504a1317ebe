"""predict with networks for other images than digits: prepared as in training, classes by name."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from classes import write_classes
from PIL import Image
from predicting import answer, refused, some_weights

from data_prep.__main__ import main as data_prep
from dist_vgg.data.dataset import load_shard, open_set
from dist_vgg.formats.trained import load_network
from dist_vgg.predict import answer as answer_of
from dist_vgg.predict import main
from dist_vgg.state.weights import Weights, save_weights


def for_pictures(fit: str, channels: int = 3) -> Weights:
    return replace(
        some_weights(channels=channels, classes=3),
        class_names=("a fish", "cat", "dog"),
        preparation=fit,
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_the_network_sees_what_data_prep_made(tmp_path: Path, fit: str, channels: int) -> None:
    for split in ("train", "test"):
        write_classes(tmp_path / "raw" / split, count=1)
    words = ("--source", "images", "--raw", tmp_path / "raw", "--fit", fit, "--channels", channels)
    words = (*words, "--size", 32, "--shards", 1, "--out", tmp_path / "out")
    assert data_prep([str(word) for word in words]) == 0
    samples = load_shard(tmp_path / "out", "train", 0, open_set(tmp_path / "out"))
    path = tmp_path / "raw" / "train" / "cat" / "0.png"
    weights = for_pictures(fit, channels)
    frame = answer_of(load_network(weights), weights, path, as_is=False).frame
    (row,) = np.flatnonzero(samples.labels == 1)
    np.testing.assert_array_equal(np.asarray(frame).reshape(32, 32, channels), samples.pixels[row])


def test_classes_have_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw, path = write_classes(tmp_path / "raw", count=2), tmp_path / "weights.h5"
    save_weights(path, for_pictures("crop"))
    pictures = sorted(raw.rglob("*.png"))
    names = for_pictures("crop").class_names
    for line in answer(capsys, path, *pictures):
        assert line.split("   (")[0] in names
        assert all(name in line for name in names)
    bad = tmp_path / "bad.png"
    bad.write_text("x")
    shown = tmp_path / "shown.png"
    assert main([str(path), "--json", "--show", str(shown), str(pictures[0]), str(bad)]) == 2
    seen, unread = json.loads(capsys.readouterr().out)
    assert names[seen["prediction"]] == seen["class"]
    assert unread["class"] is None
    with Image.open(shown) as image:
        assert np.ptp(np.asarray(image), axis=2).max() > 50  # in colours


def test_as_is_only_resizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "wide.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 90, 3), np.uint8)).save(picture)
    for fit in ("crop", "stretch"):
        save_weights(tmp_path / f"{fit}.h5", for_pictures(fit))
    crop, as_is, stretch = (
        answer(capsys, tmp_path / f"{fit}.h5", picture, *more)
        for fit, more in (("crop", ()), ("crop", ("--as-is",)), ("stretch", ()))
    )
    assert crop != as_is == stretch


def test_channels_that_no_picture_has(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.h5", for_pictures("crop", channels=2))
    assert "is for images of several channels and" in refused(tmp_path / "w.h5", "a.png")
