"""Shards: written, read back, and refused where anything is wrong with them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from lies import edited, say

from dist_vgg.base.errors import UserError
from dist_vgg.data import shards
from dist_vgg.data.dataset import check_set, load_shard, open_set
from dist_vgg.data.samples import Samples, pixel_statistics, set_digest
from dist_vgg.data.set_info import SetInfo

pytestmark = pytest.mark.usefixtures("quick_disk")


def samples(count: int, seed: int = 0) -> Samples:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, 32, 32, 1), np.uint8)
    labels = (np.arange(count) % 10).astype(np.uint8)
    return Samples(pixels, labels, rng.permutation(count * 2)[:count])


SPLITS = {"train": samples(21), "test": samples(11, 1)}
MEAN, STD = pixel_statistics(SPLITS["train"].pixels)
INFO = SetInfo(
    source="mnist",
    request="{}",
    shards=3,
    size=32,
    channels=1,
    classes=10,
    mean=MEAN,
    std=STD,
    zoom="bicubic",
    seed=0,
    train_count=21,
    test_count=11,
    digest=set_digest(SPLITS),
)


def part(split: str, index: int, count: int = 3) -> Samples:
    return SPLITS[split][np.arange(index, len(SPLITS[split]), count)]


def write(folder: Path, info: SetInfo = INFO) -> Path:
    for split in SPLITS:
        for index in range(info.shards):
            shards.write_shard(folder, split, index, part(split, index, info.shards), info)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path)


def assert_same(one: Samples, other: Samples) -> None:
    for name in ("pixels", "labels", "ids"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


# Written and read


def test_what_is_written_is_read(folder: Path) -> None:
    assert open_set(folder) == INFO
    for split in SPLITS:
        for index in range(3):
            read = load_shard(folder, split, index, INFO)
            assert_same(read, part(split, index))
            assert (read.pixels.dtype, read.labels.dtype, read.ids.dtype) == ("u1", "u1", "i8")


def test_check_set_tells_every_shard_and_the_digest(folder: Path) -> None:
    lines = list(check_set(folder))
    assert lines[0] == "train-00000-of-00003.h5: 7 samples"
    assert lines[-1] == f"SHA-256 {INFO.digest}"
    assert len(lines) == 7


def test_the_pixels_are_gzipped_for_any_hdf5_reader(folder: Path) -> None:
    with h5py.File(shards.shard_path(folder, "train", 0, 3)) as file:
        assert file["pixels"].compression == "gzip"
        np.testing.assert_array_equal(file["pixels"][...], part("train", 0).pixels)


def test_a_shard_too_large_to_be_read_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MAX_BYTES", 21 * 32 * 32)
    info = replace(INFO, shards=1)
    shards.write_shard(tmp_path, "train", 0, samples(21), info)
    with pytest.raises(UserError, match=r"prepare more shards with --shards, or smaller images"):
        shards.write_shard(tmp_path, "train", 0, samples(22), info)


@pytest.mark.parametrize("count", [1, 15, 16, 17])
def test_shards_around_the_size_of_a_chunk(tmp_path: Path, count: int) -> None:
    info = replace(INFO, shards=1, train_count=count)
    shards.write_shard(tmp_path, "train", 0, samples(count), info)
    assert_same(load_shard(tmp_path, "train", 0, info), samples(count))


def test_count_of_a_split() -> None:
    assert (INFO.count("train"), INFO.count("test"), INFO.count("held-out")) == (21, 11, 0)


def test_a_set_with_three_splits(tmp_path: Path) -> None:
    splits = {**SPLITS, "held-out": samples(7, 2)}
    info = replace(INFO, held_out_count=7, digest=set_digest(splits))
    assert (info.splits, info.held_out, info.test_name) == (tuple(splits), "held-out", "test")
    for split, some in splits.items():
        for index in range(3):
            rows = np.arange(index, len(some), 3)
            shards.write_shard(tmp_path, split, index, some[rows], info)
    assert len(list(check_set(tmp_path))) == 10
    shards.shard_path(tmp_path, "held-out", 1, 3).unlink()
    fails(tmp_path, "held-out-00001-of-00003.h5 is missing")


def test_many_classes_with_names_and_colours(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 32, 32, 3), np.uint8)
    some = Samples(pixels, np.arange(960, 1000, dtype=np.uint16), np.arange(40))
    splits = {"train": some, "test": some[:3]}
    mean, std = pixel_statistics(pixels)
    info = replace(
        INFO, shards=1, channels=3, classes=1000, mean=mean, std=std, train_count=40, test_count=3,
        class_names=tuple(f"κλάση {k}" for k in range(1000)), preparation="pad",
        digest=set_digest(splits),
    )  # fmt: skip
    for split, part_ in splits.items():
        shards.write_shard(tmp_path, split, 0, part_, info)
    assert open_set(tmp_path) == info
    assert_same(load_shard(tmp_path, "train", 0, info), some)
    list(check_set(tmp_path))


def test_shards_of_an_earlier_version_open(folder: Path) -> None:
    for path in folder.iterdir():  # one mean for all channels, and no word of what came later
        say(path, "held_out_count", "class_names", "preparation", mean=MEAN[0], std=STD[0])
    assert open_set(folder) == INFO
    list(check_set(folder))


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (dict(mean=[1, 2, 3]), "its mean is not of 1 channels"),
        (dict(std=[0]), "its std is out of bounds"),
        (dict(std=[]), "its std is not of 1 channels"),
        (dict(class_names=["one"]), "its class_names are not those of 10 classes"),
        (dict(class_names=["\n"] * 10), "its class_names is out of bounds"),
        (dict(class_names=[["one"]]), "its class_names is out of bounds"),
        (dict(preparation="magic"), "its preparation is out of bounds"),
        (dict(preparation=[]), "its preparation is out of bounds"),
    ],
)
def test_what_a_header_says_of_images_is_checked(
    lie: dict[str, Any], reason: str, folder: Path
) -> None:
    say(first(folder), **lie)
    fails(folder, reason)


# Refused


def fails(folder: Path, match: str) -> None:
    """Checking the folder must raise one line that names the folder and says how to mend it."""
    with pytest.raises(UserError, match=match) as caught:
        list(check_set(folder))
    line = str(caught.value)
    assert "\n" not in line
    assert str(folder) in line
    assert "python -m data_prep --out" in line


def first(folder: Path) -> Path:
    return shards.shard_path(folder, "train", 0, 3)


def test_no_folder(tmp_path: Path) -> None:
    fails(tmp_path / "gone", "no data folder")


def test_no_shards(tmp_path: Path) -> None:
    fails(tmp_path, "no shards in")


def test_a_missing_shard(folder: Path) -> None:
    shards.shard_path(folder, "test", 2, 3).unlink()
    fails(folder, "test-00002-of-00003.h5 is missing")


@pytest.mark.parametrize("keep", [0, 100, -1000])
def test_a_shard_cut_short(folder: Path, keep: int) -> None:
    path = first(folder)
    path.write_bytes(path.read_bytes()[:keep])
    fails(folder, "train-00000-of-00003.h5 is damaged")


def test_a_changed_bit_in_the_pixels(folder: Path) -> None:
    path = first(folder)
    with h5py.File(path) as file:
        chunk = file["pixels"].id.get_chunk_info(0)
    data = bytearray(path.read_bytes())
    data[chunk.byte_offset + chunk.size // 2] ^= 1
    path.write_bytes(data)
    fails(folder, r"train-00000-of-00003.h5 is damaged \(its content is not what was written\)")


@pytest.mark.parametrize("field", ["seed", "digest", "mean", "request"])
def test_a_shard_of_another_set(folder: Path, field: str) -> None:
    change: dict[str, Any] = {field: {"seed": 1, "mean": (MEAN[0] + 1e-9,)}.get(field, "0" * 64)}
    other = replace(INFO, **change)
    shards.write_shard(folder, "test", 1, part("test", 1), other)
    fails(folder, "test-00001-of-00003.h5 belongs to another data set")
    with pytest.raises(UserError, match="another data set"):
        load_shard(folder, "test", 1, INFO)


def test_shards_of_two_shardings(folder: Path) -> None:
    write(folder, replace(INFO, shards=2))
    fails(folder, "belongs to another data set")


def test_a_renamed_shard(folder: Path) -> None:
    shards.shard_path(folder, "train", 1, 3).replace(first(folder))
    fails(folder, "train-00000-of-00003.h5 says that it is train shard 1")


def test_another_schema(folder: Path) -> None:
    path = first(folder)
    path.write_bytes(path.read_bytes().replace(b"dist_vgg 2 ", b"dist_vgg 1 "))
    fails(folder, "it is not of schema 2, or not of ours")


def test_a_foreign_hdf5_file(folder: Path) -> None:
    with h5py.File(first(folder), "w") as file:
        file["x"] = 1
    fails(folder, "it is not of schema 2, or not of ours")


@pytest.mark.parametrize("name", ["mean", "split", "index"])
def test_a_missing_field(folder: Path, name: str) -> None:
    say(first(folder), name)
    fails(folder, f"its header lacks {name}")


def test_a_missing_array(folder: Path) -> None:
    with edited(first(folder)) as file:
        del file["labels"]
    fails(folder, "it holds other things than it should")


def test_a_label_outside_the_classes(folder: Path) -> None:
    bad = part("train", 0)
    labels = bad.labels.copy()
    labels[2] = 10
    shards.write_shard(folder, "train", 0, replace(bad, labels=labels), INFO)
    fails(folder, rf"sample {bad.ids[2]} has label 10, outside the classes 0\.\.9")


@pytest.mark.parametrize("name", ["pixels", "labels", "ids"])
def test_arrays_of_unequal_length(folder: Path, name: str) -> None:
    with edited(first(folder)) as file:
        shorter = file[name][:-1]
        del file[name]
        file[name] = shorter
    fails(folder, "has arrays of unequal length")


def test_a_sample_in_two_shards(folder: Path) -> None:
    bad = part("train", 0)
    ids = bad.ids.copy()
    ids[0] = part("train", 1).ids[0]
    shards.write_shard(folder, "train", 0, replace(bad, ids=ids), INFO)
    fails(folder, "hold 21 samples, 20 of them distinct, instead of 21")


def test_a_lost_sample(folder: Path) -> None:
    shards.write_shard(folder, "test", 0, part("test", 0)[1:], INFO)
    fails(folder, "hold 10 samples, 10 of them distinct, instead of 11")


def test_valid_files_with_other_content(folder: Path) -> None:
    bad = part("test", 0)
    shards.write_shard(folder, "test", 0, replace(bad, pixels=bad.pixels ^ 1), INFO)
    fails(folder, "is not what its shards were written with")


def test_a_folder_that_can_not_be_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"can't write a shard to .* free space or choose another"):
        write(tmp_path / "gone")


@pytest.mark.parametrize("request_", ["", "{}", "5", "null", '{"limit": 5}', "[" * 50_000])
def test_what_data_prep_did_not_hold_out_is_the_test_set(data: Path, request_: str) -> None:
    info = replace(open_set(data), request=request_)
    assert info.held_out == ""
    assert info.test_name == "test"
    old = replace(info, request='{"held_out": 5}')
    assert (old.held_out, old.test_name) == ("test", "held-out training")
