"""The picture of augmentation: one row of a class, the first column as it is."""

from pathlib import Path

import numpy as np
import pytest
from launcher import one_line, run
from PIL import Image

from dist_vgg.base.errors import UserError
from dist_vgg.data.augment import Augment
from dist_vgg.data.dataset import load_shard, open_set
from dist_vgg.data.samples import Samples, pixel_statistics, set_digest
from dist_vgg.data.set_info import SetInfo
from dist_vgg.data.shards import write_shard
from dist_vgg.preview import COLUMN, GAP, HEAD, draw, main, one_of_each


def preview(*options: object, ranks: int = 1) -> tuple[int, str, str]:
    return run(ranks, "-m", "dist_vgg.preview", *options)


def test_a_picture_of_each_class_before_and_after(data: Path, tmp_path: Path) -> None:
    path, recipe = tmp_path / "picture.png", tmp_path / "recipe.toml"
    recipe.write_text("shift = 0.2\nlr = 0.1\n")
    status, output, errors = preview(path, "--data", data, "--config", recipe)
    assert status == 0, errors
    info = open_set(data)
    samples = load_shard(data, "train", 0, info)
    with Image.open(path) as image:
        pixels = np.array(image)
    rows = len(np.unique(samples.labels))
    assert output == f"{path}: {rows} images of {data}, as 9 epochs show them\n"
    assert pixels.shape == (HEAD + rows * (info.size + GAP), 10 * COLUMN + GAP)
    first = samples.pixels[samples.labels.argmin(), :, :, 0]
    size = info.size
    np.testing.assert_array_equal(pixels[HEAD : HEAD + size, :size], first)
    left = COLUMN + GAP
    assert (pixels[HEAD : HEAD + size, left : left + size] != first).any()


def test_of_many_classes_the_first_are_drawn() -> None:
    labels = np.repeat(np.arange(300, dtype=np.uint16), 2)
    many = Samples(np.zeros((600, 32, 32, 1), np.uint8), labels, np.arange(600))
    assert one_of_each(many).labels.tolist() == list(range(20))


def test_where_nothing_is_varied_it_says_so_and_draws_no_epochs(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    status, output, errors = preview(path, "--data", data, "--rotate", 0)
    assert status == 0, errors
    drawn, varied = output.splitlines()
    assert drawn.endswith(f" images of {data}, as they are")
    assert varied == (
        "nothing is varied; give --rotate, --scale, --shear, --shift, --deform, "
        "or --config with a recipe"
    )
    info = open_set(data)
    samples = load_shard(data, "train", 0, info)
    with Image.open(path) as image:
        pixels = np.array(image)
    assert pixels.shape[1] == COLUMN + GAP
    first = samples.pixels[samples.labels.argmin(), :, :, 0]
    np.testing.assert_array_equal(pixels[HEAD : HEAD + info.size, : info.size], first)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_three_channels_are_colour_and_others_their_mean_in_grey(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, channels), np.uint8)
    samples = Samples(pixels, np.arange(2, dtype=np.uint8), np.arange(2))
    picture = draw(samples, Augment(shift=0.1), 0, 1)
    drawn = np.array(picture)[HEAD : HEAD + 32, :32]
    if channels == 3:
        assert picture.mode == "RGB"
        np.testing.assert_array_equal(drawn, pixels[0])
        heading = np.array(picture)[:HEAD]
        assert heading.max() > 200
        assert not np.ptp(heading, axis=2).any()  # white on grey
    else:
        assert picture.mode == "L"
        np.testing.assert_array_equal(drawn, np.rint(pixels[0].mean(axis=2)))


def test_a_set_of_three_channels_is_drawn_in_colour(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    samples = Samples(pixels, np.arange(2, dtype=np.uint8), np.arange(2))
    mean, std = pixel_statistics(pixels)
    info = SetInfo(
        source="mnist",
        request="{}",
        shards=1,
        size=32,
        channels=3,
        classes=2,
        mean=mean,
        std=std,
        zoom="none",
        seed=0,
        train_count=2,
        test_count=2,
        digest=set_digest({"train": samples, "test": samples}),
    )
    for split in ("train", "test"):
        write_shard(tmp_path, split, 0, samples, info)
    path = tmp_path / "picture.png"
    status, _, errors = preview(path, "--data", tmp_path, "--shift", 0.1)
    assert status == 0, errors
    with Image.open(path) as image:
        drawn = np.array(image)
    np.testing.assert_array_equal(drawn[HEAD : HEAD + 32, :32], pixels[0])


def test_bad_input_is_one_line(data: Path, tmp_path: Path) -> None:
    for options, words in [
        ((tmp_path / "x.png", "--data", tmp_path), f"no shards in {tmp_path}"),
        ((tmp_path / "x.gif", "--data", data), "name a .png file"),
        ((tmp_path / "gone" / "x.png", "--data", data), "can't write the picture"),
        ((tmp_path / "x.png", "--data", data, "--rotate", 999), "--rotate 999.0 is out of range"),
        ((tmp_path / "x.png", "--data", data, "--rotat", 9), "did you mean --rotate?"),
        ((tmp_path / "x.png", "--config", tmp_path / "no.toml"), "can't read --config"),
    ]:
        with pytest.raises(UserError) as found:
            main([str(word) for word in options])
        assert words in str(found.value)
        assert "\n" not in str(found.value)
    status, _, errors = preview(tmp_path / "x.png", "--data", data, ranks=2)
    assert status == 2
    assert "without mpirun" in one_line(errors)
    assert not list(tmp_path.iterdir())
