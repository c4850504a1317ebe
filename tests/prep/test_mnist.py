"""MNIST's four files in a folder that the user names."""

from pathlib import Path

import numpy as np
import pytest
from idx import ArrayDict, tiny_arrays, write_files

from data_prep import mnist
from data_prep.raw import Raw
from data_prep.sources import load
from dist_vgg.base.errors import UserError

TRAIN_IMAGES, TRAIN_LABELS = mnist.FILES["train"]
TEST_IMAGES, TEST_LABELS = mnist.FILES["test"]


@pytest.mark.parametrize("zipped", [True, False])
def test_a_folder_gives_images_labels_and_ids(
    tmp_path: Path, tiny: ArrayDict, zipped: bool
) -> None:
    raw = load("mnist", write_files(tmp_path, tiny, zipped), print)
    assert raw.source == "mnist"
    np.testing.assert_array_equal(raw.pictures["train"].array, tiny[TRAIN_IMAGES])
    np.testing.assert_array_equal(raw.labels["test"], tiny[TEST_LABELS])
    np.testing.assert_array_equal(raw.ids["train"], np.arange(60))
    np.testing.assert_array_equal(raw.ids["test"], np.arange(20))


def test_a_folder_with_the_names_of_some_archives(tmp_path: Path, tiny: ArrayDict) -> None:
    write_files(tmp_path, tiny, zipped=False)
    for name in tiny:
        (tmp_path / name).rename(tmp_path / name.replace("-idx", ".idx"))
    assert mnist.MNIST.read_folder(tmp_path).keys() == tiny.keys()


@pytest.mark.parametrize("source", ["auto", "mnist"])
def test_a_folder_that_lacks_files_is_never_passed_over(
    tmp_path: Path, tiny: ArrayDict, source: str
) -> None:
    del tiny[TRAIN_LABELS], tiny[TEST_IMAGES]
    with pytest.raises(UserError, match=rf"lacks {TRAIN_LABELS}\[.gz\], {TEST_IMAGES}\[.gz\];"):
        load(source, write_files(tmp_path, tiny), print)


def test_no_folder_at_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gone is not a folder"):
        load("auto", tmp_path / "gone", print)


def test_other_content_is_refused(tmp_path: Path, tiny: ArrayDict) -> None:
    tiny[TEST_IMAGES] = tiny[TEST_IMAGES] ^ 1
    with pytest.raises(UserError, match=f"{TEST_IMAGES}.gz is not MNIST's .* another SHA-256"):
        mnist.MNIST.read_folder(write_files(tmp_path, tiny))


def test_images_and_labels_of_different_counts(tmp_path: Path, tiny: ArrayDict) -> None:
    tiny[TEST_LABELS] = tiny[TEST_LABELS][:-1]
    with pytest.raises(UserError, match=f"has 20 images, but {TEST_LABELS}.gz has 19 labels"):
        mnist.MNIST.read_folder(write_files(tmp_path, tiny))


def test_a_label_that_is_no_digit(tmp_path: Path, tiny: ArrayDict) -> None:
    tiny[TRAIN_LABELS][7] = 10
    with pytest.raises(UserError, match=r"has the label 10 at 7, outside 0\.\.9"):
        mnist.MNIST.read_folder(write_files(tmp_path, tiny))


def test_the_real_mnist_has_the_hashes_written_here(real_mnist: Path) -> None:
    raw = load("mnist", real_mnist, print)
    assert raw.pictures["train"].array.shape == (60000, 28, 28)
    assert raw.pictures["test"].array.shape == (10000, 28, 28)
    assert raw.labels["train"][:5].tolist() == [5, 0, 4, 1, 9]


def test_digest_depends_on_every_array() -> None:
    def raw(arrays: ArrayDict) -> Raw:
        return mnist.MNIST.to_raw(arrays)

    first = raw(tiny_arrays()).digest()
    assert raw(tiny_arrays()).digest() == first
    for name in mnist.NAMES:
        arrays = tiny_arrays()
        arrays[name].flat[3] ^= 1
        assert raw(arrays).digest() != first
