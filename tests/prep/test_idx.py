"""IDX files: read, and refused where anything is wrong with them."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from idx import tiny_arrays, write_files

from data_prep.idx import MAX_BYTES, idx_bytes, read_idx
from data_prep.idx_set import find_file
from dist_vgg.base.errors import UserError


@pytest.mark.parametrize("zipped", [True, False])
def test_read_idx_gives_back_what_was_written(tmp_path: Path, zipped: bool) -> None:
    arrays = tiny_arrays()
    write_files(tmp_path, arrays, zipped)
    for name, array in arrays.items():
        path = find_file(tmp_path, name)
        assert path
        read = read_idx(path, array.ndim)
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, array)


def test_idx_bytes_are_those_of_the_format() -> None:
    array = np.array([[1, 2, 3]], np.uint8)
    assert idx_bytes(array) == bytes.fromhex("00000802 00000001 00000003 010203")


GOOD = idx_bytes(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
BAD_FILES = {
    "wrong magic": (b"<html>" + GOOD, "begins with 3c68746d instead of 00000803"),
    "labels": (idx_bytes(np.zeros(5, np.uint8)), "begins with 00000801 instead of 00000803"),
    "empty": (b"", "begins with nothing"),
    "short header": (GOOD[:9], "ends within its header"),
    "too short": (GOOD[:-1], "23 bytes of data instead of 24"),
    "too long": (GOOD + b"x", "more than 24 bytes of data instead of 24"),
    "huge header": (GOOD[:4] + b"\xff" * 12, "more than 67,108,864"),
    "gzip cut short": (gzip.compress(GOOD)[:-9], "damaged or cut-short gzip"),
    "gzip without its end": (gzip.compress(GOOD)[:-4], "damaged or cut-short gzip"),
    "gzip with a flipped byte": (
        gzip.compress(GOOD)[:-8] + b"\0\0\0\0" + gzip.compress(GOOD)[-4:],
        "damaged or cut-short gzip",
    ),
    "gzip that never comes to its content": (
        b"\x1f\x8b\x08\x08" + bytes(6) + b"name" * 1000,
        "damaged or cut-short gzip",
    ),
    "two gzips": (gzip.compress(GOOD[:20]) + gzip.compress(GOOD[20:]), "damaged or cut-short gzip"),
    "something behind a gzip": (gzip.compress(GOOD) + b"x", "damaged or cut-short gzip"),
    "no images of any size": (GOOD[:4] + bytes(4) + b"\xff" * 8, "0 x 4294967295 x 4294967295"),
    "gzip of something else": (gzip.compress(b"hello"), "begins with 68656c6c"),
}


@pytest.mark.parametrize("what", BAD_FILES)
def test_a_bad_file_is_told_by_its_name_and_fault(tmp_path: Path, what: str) -> None:
    content, fault = BAD_FILES[what]
    path = tmp_path / "bad"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_idx(path, 3)
    assert str(path) in str(caught.value)
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_gzip_that_swells_is_not_decompressed(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(GOOD + bytes(50_000_000), 1))
    tracemalloc.start()
    with pytest.raises(UserError, match="more than 24 bytes"):
        read_idx(path, 3)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_a_file_larger_than_any_of_mnist_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    monkeypatch.setattr(Path, "read_bytes", None)
    with pytest.raises(UserError, match="is not of MNIST: it has more than 67,108,864 bytes"):
        read_idx(path, 3)


def test_zeros_behind_a_gzip_are_padding(tmp_path: Path) -> None:
    path = tmp_path / "padded"
    path.write_bytes(gzip.compress(GOOD) + bytes(100))
    assert read_idx(path, 3).shape == (2, 3, 4)
