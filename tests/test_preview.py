"""The picture of augmentation: one row of a class, the first column as it is."""

from pathlib import Path

import numpy as np
from launcher import one_line, run
from PIL import Image

from dist_vgg.preview import COLUMN, GAP, HEAD
from dist_vgg.shards import load_shard, open_set


def preview(*options: object, ranks: int = 1) -> tuple[int, str, str]:
    return run(ranks, "-m", "dist_vgg.preview", *options)


def test_a_picture_of_each_class_before_and_after(data: Path, tmp_path: Path) -> None:
    path, recipe = tmp_path / "picture.png", tmp_path / "recipe.toml"
    recipe.write_text("shift = 0.2\nlr = 0.1\n")
    status, output, errors = preview(path, "--data", data, "--config", recipe)
    assert status == 0, errors
    assert str(path) in output
    info = open_set(data)
    samples = load_shard(data, "train", 0, info)
    with Image.open(path) as image:
        pixels = np.array(image)
    rows = len(np.unique(samples.labels))
    assert pixels.shape == (HEAD + rows * (info.size + GAP), 10 * COLUMN + GAP)
    first = samples.pixels[samples.labels.argmin(), :, :, 0]
    size = info.size
    np.testing.assert_array_equal(pixels[HEAD : HEAD + size, :size], first)
    left = COLUMN + GAP
    assert (pixels[HEAD : HEAD + size, left : left + size] != first).any()
    # Without strengths, every epoch shows them as they are.
    assert preview(path, "--data", data)[0] == 0
    with Image.open(path) as image:
        pixels = np.array(image)
    np.testing.assert_array_equal(pixels[HEAD : HEAD + size, left : left + size], first)


def test_bad_input_is_one_line(data: Path, tmp_path: Path) -> None:
    for options, words in [
        ((tmp_path / "x.png", "--data", tmp_path), f"no shards in {tmp_path}"),
        ((tmp_path / "x.gif", "--data", data), "name a .png file"),
        ((tmp_path / "gone" / "x.png", "--data", data), "can't write the picture"),
        ((tmp_path / "x.png", "--data", data, "--rotate", 999), "--rotate 999.0 is out of range"),
        ((tmp_path / "x.png", "--data", data, "--rotat", 9), "did you mean --rotate?"),
        ((tmp_path / "x.png", "--config", tmp_path / "no.toml"), "can't read --config"),
    ]:
        status, _, errors = preview(*options)
        assert status == 2, options
        assert words in one_line(errors)
    status, _, errors = preview(tmp_path / "x.png", "--data", data, ranks=2)
    assert status == 2
    assert "without mpirun" in one_line(errors)
    assert not list(tmp_path.iterdir())
