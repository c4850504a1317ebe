"""npz files of NumPy become shards, and what is refused of them before it takes memory."""

import io
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from preparing import Run, enlarged, everything

from data_prep import npz
from dist_vgg.base.errors import UserError
from dist_vgg.data.dataset import open_set

pytestmark = pytest.mark.usefixtures("quick_disk")


def arrays(*shape: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "train_images": rng.integers(0, 256, (12, *shape), np.uint8),
        "train_labels": np.arange(12) % 4,
        "test_images": rng.integers(0, 256, (8, *shape), np.uint8),
        "test_labels": np.arange(8)[:, None] % 4,
    }


@pytest.mark.parametrize("shape", [(10, 12), (10, 12, 1), (10, 12, 3)])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_become_shards(run: Run, tmp_path: Path, shape: tuple, save: Any) -> None:
    given = arrays(*shape)
    given["train_images"] = np.asfortranarray(given["train_images"])
    save(tmp_path / "a.npz", **given, more=np.array([None]))
    words = ("--source", "npz", "--raw", tmp_path / "a.npz", "--size", 32, "--shards", 2)
    assert run(*words, "--fit", "stretch", "--out", tmp_path / "out")[0] == 0
    info, splits = open_set(tmp_path / "out"), everything(tmp_path / "out")
    channels = 3 if shape[-1] == 3 else 1
    assert (info.source, info.classes, info.channels) == ("npz", 4, channels)
    assert info.preparation == "stretch"
    assert splits["test"].labels.tolist() == [0, 1, 2, 3] * 2
    if channels == 1:
        grey = np.ascontiguousarray(given["train_images"]).reshape(12, 10, 12)
        np.testing.assert_array_equal(splits["train"].pixels, enlarged(grey, 32))


def changed(**others: Any) -> dict[str, Any]:
    return {name: value for name, value in (arrays(8, 8) | others).items() if value is not None}


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "pickled": (changed(train_images=np.array([{}] * 12)), "train_images are object, not integers"),
    "missing": (changed(test_labels=None), "lacks test_labels; it needs train_ and test_images"),
    "floats": (changed(test_images=np.zeros((8, 4, 4))), "test_images are float64, not integers"),
    "wide": (changed(test_images=np.zeros((8, 4, 4), int)), "has images of 8 x 4 x 4 int64; give"),
    "flat": (changed(test_images=np.zeros((8, 4), np.uint8)), "has images of 8 x 4 uint8; give"),
    "4 channels": (changed(test_images=np.zeros((8, 4, 4, 4), np.uint8)), "8 x 4 x 4 x 4 uint8"),
    "mixed": (changed(test_images=np.zeros((8, 4, 4, 3), np.uint8)), "grey images in one split"),
    "counts": (changed(test_labels=np.arange(7)), "test set has 8 images, but 7 labels"),
    "negative": (changed(test_labels=np.arange(8) - 1), "has the label -1, outside 0..999"),
    "too many": (changed(test_labels=np.full(8, 1000)), "has the label 1000, outside 0..999"),
    "matrix": (changed(test_labels=np.zeros((8, 2), int)), "has labels of 8 x 2; give one"),
    "one class": (
        changed(train_labels=np.zeros(12, int), test_labels=np.zeros(8, int)),
        "one class",
    ),
    "gap": (changed(train_labels=np.arange(12) % 3), "no training images of the class 3"),
    "no test": (
        changed(test_images=np.zeros((0, 8, 8), np.uint8), test_labels=np.zeros(0, int)),
        "no test images of the class 0",
    ),
    "large": (changed(test_images=np.zeros((8, 1, 1025), np.uint8)), "a side has from 1 to 1,024"),
    "nothing": (changed(test_images=np.zeros((8, 0, 5), np.uint8)), "has images of 0x5 pixels"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_arrays_are_one_line(tmp_path: Path, what: str) -> None:
    given, words = BAD[what]
    np.savez(tmp_path / "a.npz", **given)
    with pytest.raises(UserError) as caught:
        npz.load(tmp_path / "a.npz")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file_and_no_archive(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gone is no file; name an npz file"):
        npz.load(tmp_path / "gone")
    (tmp_path / "a.npz").write_text("PK")
    with pytest.raises(UserError, match="is no npz file, or damaged"):
        npz.load(tmp_path / "a.npz")


def header(shape: str) -> bytes:
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (header("(90000, 1000, 1000)") + bytes(1000), "another length than its header says"),
        (header("(10, 10)") + bytes(60_000_000), "another length than its header says"),
        (header("(100, 1000, 1000)") + bytes(100_000_000), "which no images do"),
        (header("(" * 400 + ")" * 400), "no npz file, or damaged"),
        (header("(-1, 5)"), "another length than its header says"),
        (b"\x93NUMPY\x02\x00" + b"\xff" * 4, "of another version"),
    ],
)
def test_lying_headers_take_no_memory(tmp_path: Path, content: bytes, words: str) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train_images.npy", content)
    path = tmp_path / "a.npz"
    path.write_bytes(file.getvalue())
    del content, file
    tracemalloc.start()
    with pytest.raises(UserError, match=words):
        npz.load(path)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
