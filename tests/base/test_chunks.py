"""Rows of an array in a file: those of the array, and an error where the file has changed."""

import gc
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dist_vgg.base.bounds import root, rows_on_demand
from dist_vgg.base.chunks import RowsOnDemand, StackedRows
from dist_vgg.base.errors import RankError
from dist_vgg.base.files import open_hdf5, whole_hdf5

ARRAY = np.random.default_rng(0).integers(0, 256, (37, 4, 5, 3), np.uint8)


def opened(path: Path, **stored: object) -> RowsOnDemand:
    with whole_hdf5(path, "an array") as file:
        file.create_dataset("pixels", data=ARRAY, **stored)
    with open_hdf5(path) as file:
        return rows_on_demand(root(file), path, "pixels", "u1", 4, ARRAY.nbytes)


@pytest.fixture
def rows(tmp_path: Path) -> RowsOnDemand:
    return opened(tmp_path / "a.h5", chunks=(8, 4, 5, 3), compression="gzip")


@given(st.lists(st.integers(0, 36)))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_rows_are_those_of_the_array(rows: RowsOnDemand, wanted: list[int]) -> None:
    places = np.array(wanted, int)
    np.testing.assert_array_equal(rows[places], ARRAY[places])
    stacked = StackedRows([ARRAY[:5], rows, ARRAY[30:]])
    together = np.concatenate([ARRAY[:5], ARRAY, ARRAY[30:]])
    np.testing.assert_array_equal(stacked[places + 12], together[places + 12])


@pytest.mark.parametrize("part", [slice(None), slice(3, 11), slice(30, 99), slice(5, 5)])
def test_slices(rows: RowsOnDemand, part: slice) -> None:
    np.testing.assert_array_equal(rows[part], ARRAY[part])
    assert (len(rows), rows.shape) == (37, ARRAY.shape)


def test_what_is_not_in_blocks_is_read_whole(tmp_path: Path) -> None:
    assert isinstance(opened(tmp_path / "b.h5"), np.ndarray)


def test_a_file_that_another_one_replaces_goes_on_to_be_read(
    rows: RowsOnDemand, tmp_path: Path
) -> None:
    (tmp_path / "other").write_bytes(b"other")
    (tmp_path / "other").replace(tmp_path / "a.h5")
    np.testing.assert_array_equal(rows[:], ARRAY)


@pytest.mark.parametrize("change", ["a bit", "cut short"])
def test_a_file_that_has_changed_is_named(rows: RowsOnDemand, tmp_path: Path, change: str) -> None:
    path = tmp_path / "a.h5"
    data = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        first = file["pixels"].id.get_chunk_info(1).byte_offset
    if change == "a bit":
        data[first + 20] ^= 1
    with path.open("r+b") as file:  # the file itself, not another of its name
        file.write(data)
        if change == "cut short":
            file.truncate(first + 20)
    np.testing.assert_array_equal(rows[:8], ARRAY[:8])
    with pytest.raises(RankError, match=r"can't read .*/a\.h5 any more \(its content has changed"):
        rows[np.array([9])]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_the_file_is_closed_with_the_last_reference(tmp_path: Path) -> None:
    gc.collect()
    before = open_files()
    kept = opened(tmp_path / "a.h5", chunks=(8, 4, 5, 3), compression="gzip")
    assert open_files() == before + 1
    del kept
    gc.collect()
    assert open_files() == before
