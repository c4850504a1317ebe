"""Data sets from arrays and from folders: what they hold, how they are dealt, what they refuse."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from idx import ArrayDict, write_files
from preparing import enlarged

from data_prep import __main__ as data_prep
from dist_vgg import Dataset, UserError
from dist_vgg.api import dataset
from dist_vgg.data.dataset import check_set, load_shard, open_set
from dist_vgg.data.shards import write_shard

pytestmark = pytest.mark.usefixtures("quick_disk")


def images(count: int = 20, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, *(shape or (32, 32))), np.uint8)


LABELS = np.arange(20) % 4


def test_arrays_are_dealt_as_data_prep_deals_them(tmp_path: Path, tiny: ArrayDict) -> None:
    raw, out = write_files(tmp_path / "raw", tiny), tmp_path / "out"
    words = ("--raw", raw, "--out", out, "--shards", 7, "--size", 32, "--seed", 3)
    assert data_prep.main([str(word) for word in words]) == 0
    large = enlarged(tiny["train-images-idx3-ubyte"], 32)
    arrays = Dataset(large, tiny["train-labels-idx1-ubyte"], shards=7, seed=3)
    info = open_set(out)
    assert (arrays.info.mean, arrays.info.std) == (info.mean, info.std)
    for index in range(7):
        theirs, ours = load_shard(out, "train", index, info), arrays.shard(index)
        for name in ("pixels", "labels", "ids"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


def test_a_set_tells_what_it_is() -> None:
    data = Dataset(images(), LABELS, shards=3, classes=10, source="letters")
    assert repr(data) == "<Dataset letters: 20 images of 32x32x1, 10 classes, 3 shards>"
    assert len(data) == 20
    assert Dataset(images(20, 64, 64, 3), LABELS).info.classes == 4


def test_every_sample_is_in_one_shard_of_one_rank() -> None:
    data = Dataset(images(), LABELS, shards=5, ids=np.arange(100, 120))
    ids = [s.ids for rank in range(3) for s in data.local(3, rank).values()]
    assert sorted(np.concatenate(ids)) == list(range(100, 120))
    assert [sum(map(len, data.local(3, rank, limit=8).values())) for rank in range(3)] == [4, 3, 1]


def test_what_is_saved_opens_as_the_same_set(tmp_path: Path) -> None:
    train, test = Dataset(images(), LABELS, shards=3), Dataset(images(9), LABELS[:9], shards=3)
    train.save(str(tmp_path / "data"), test)
    for split, part in (("train", train), ("test", test)):
        opened = Dataset.open(tmp_path / "data", split)
        assert len(opened) == len(part)
        for index in range(3):
            np.testing.assert_array_equal(opened.shard(index).pixels, part.shard(index).pixels)
    assert not opened.info.held_out
    assert (opened.info.mean, opened.info.std) == (train.info.mean, train.info.std)
    with pytest.raises(UserError, match="holds shards already; name another folder"):
        train.save(tmp_path / "data", test)
    train.save(tmp_path / "held", test, held_out=True)
    assert Dataset.open(tmp_path / "held").info.held_out
    other = Dataset(images(9), LABELS[:9], shards=2)
    with pytest.raises(UserError, match="has shards 3 and the test set 2; make them alike"):
        train.save(tmp_path / "other", other)


@pytest.mark.parametrize("error", [KeyboardInterrupt, UserError])
def test_a_save_that_ends_midway_leaves_nothing(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, written = Dataset(images(), LABELS, shards=3), []

    def failing(*what: Any) -> None:
        if len(written) == 4:
            raise error
        written.append(what)
        write_shard(*what)

    monkeypatch.setattr(dataset, "write_shard", failing)
    with pytest.raises(error):
        data.save(tmp_path / "new" / "data", data)
    assert len(written) == 4
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cant_be_written_to_is_refused(tmp_path: Path) -> None:
    data, file = Dataset(images(), LABELS), tmp_path / "file"
    file.touch()
    with pytest.raises(UserError, match=f"can't write to {file}: File exists; choose another"):
        data.save(file, data)


def test_a_folder_that_is_none_is_refused(tmp_path: Path, data: Path) -> None:
    with pytest.raises(UserError, match="no data folder"):
        Dataset.open(str(tmp_path / "none"))
    with pytest.raises(UserError, match="no split tets; choose one of train, test"):
        Dataset.open(data, "tets")


def test_more_ranks_than_shards_are_refused(data: Path) -> None:
    for each in (Dataset.open(data), Dataset(images(), LABELS, shards=8)):
        with pytest.raises(UserError, match="9 ranks for 8 shards: a rank needs a shard"):
            each.local(9, 0)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"images": images() / 255}, "the images are float64; give uint8 from 0 to 255"),
        ({"images": images(20, 28, 28)}, "the images are 28x28; VGG16 halves them five times"),
        ({"images": images(20, 32, 64)}, "the images are 32x64; VGG16"),
        ({"images": images(20, 32, 32, 20)}, "have 20 channels; give 1 to 16"),
        ({"images": images(20, 32)}, r"have the shape \(20, 32\); give \(N, side, side\)"),
        ({"images": [images(1)[0], images(1, 64, 64)[0]]}, "differ in shape"),
        ({"images": images(0, 32, 32)}, "there are no images"),
        ({"images": np.full((20, 32, 32), 7, np.uint8)}, "one value: there is nothing to learn"),
        ({"labels": LABELS[:-1]}, r"20 images need labels of the shape \(20,\), not \(19,\)"),
        ({"labels": LABELS / 1}, "the labels are float64; give integers from 0 up"),
        ({"labels": LABELS - 1}, "label -1 is outside the classes 0 to 999"),
        ({"labels": LABELS + 1000}, "label 1003 is outside the classes 0 to 999"),
        ({"classes": 3}, "label 3 is outside the classes 0 to 2"),
        ({"classes": 1001}, "classes=1001 is out of range; give 1 to 1000"),
        ({"classes": 0}, "classes=0 is out of range; give 1 to 1000"),
        ({"shards": 21}, "20 images can't be dealt to 21 shards; give shards= from 1 to 20"),
        ({"shards": 0}, "20 images can't be dealt to 0 shards"),
        ({"ids": np.zeros(20, int)}, "an id twice or below 0"),
        ({"ids": np.arange(3)}, "ids= needs 20 integers"),
    ],
)
def test_arrays_that_make_no_set_are_refused(given: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        Dataset(**{"images": images(), "labels": LABELS, **given})


def test_three_splits_in_one_folder(tmp_path: Path) -> None:
    names = ["round", "flat", "tall", "other"]
    train, test, held_out = (
        Dataset(images(count, 32, 32, 3), LABELS[:count], shards=3, class_names=names)
        for count in (20, 8, 5)
    )
    train.save(tmp_path / "data", test, held_out)
    opened = Dataset.open(tmp_path / "data", "held-out")
    assert (len(opened), opened.info.held_out) == (5, "held-out")
    assert (opened.info.class_names, opened.info.preparation) == (tuple(names), "crop")
    list(check_set(tmp_path / "data"))
    Dataset.open(tmp_path / "data").save(tmp_path / "two", test)
    assert open_set(tmp_path / "two").splits == ("train", "test")
    with pytest.raises(UserError, match=r"two has no held-out images, only train and test; prep"):
        Dataset.open(tmp_path / "two", "held-out")


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (dict(class_names=["one"]), "1 class name for 4 classes; give one for each"),
        (dict(class_names=["a\n"] * 4), "class_names=.* can't be used"),
        (dict(class_names=["x" * 200] * 250, classes=250), "class_names=.* can't be used"),
        (dict(preparation="magic"), "preparation='magic' can't be used"),
    ],
)
def test_words_that_files_do_not_take(given: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        Dataset(images(20), LABELS, **given)
