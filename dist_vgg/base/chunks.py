"""Arrays that a file holds gzipped in blocks of rows: read whole, or row by row when needed."""

import math
import os
import weakref
import zlib
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from dist_vgg.base.errors import RankError
from dist_vgg.base.files import USER_BLOCK, NotWhole


def inflate(data: bytes, size: int, name: str) -> bytes:
    """What a block holds. Raises NotWhole for another length than `size`, in memory for no more.

    libhdf5's own filter inflates whatever a block swells to; this does not.
    """
    unzip = zlib.decompressobj()
    try:
        found = unzip.decompress(data, size + 1)
    except zlib.error as error:
        raise NotWhole(f"its {name} do not unzip") from error
    if len(found) != size or not unzip.eof:
        raise NotWhole(f"its {name} unzip to another length than they claim")
    return found


def block_rows(dataset: h5py.h5d.DatasetID, name: str) -> int:
    """How many rows a block has. Raises NotWhole where they are stored in another way."""
    plist, shape = dataset.get_create_plist(), dataset.get_space().get_simple_extent_dims()
    block = plist.get_chunk()
    filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    if filters != [h5py.h5z.FILTER_DEFLATE] or block[1:] != shape[1:] or block[0] > shape[0]:
        raise NotWhole(f"its {name} are stored in an unknown way")
    return int(block[0])


def read_block(dataset: h5py.h5d.DatasetID, row: int, name: str) -> bytes:
    """The gzipped block that begins at a row. Raises NotWhole for one that the file can't hold."""
    place = (row, *(0 for _ in dataset.get_space().get_simple_extent_dims()[1:]))
    size = dataset.get_chunk_info_by_coord(place).size
    if size is None or size > file_size(dataset):
        raise NotWhole(f"its {name} claim to be larger than they are")
    return bytes(dataset.read_direct_chunk(place)[1])


def file_size(dataset: h5py.h5d.DatasetID) -> int:
    """Bytes of the file that a dataset is in."""
    return int(h5py.h5i.get_file_id(dataset).get_filesize())


class RowsOnDemand:
    """An array in a file, of which rows are read when they are asked for.

    A slice or an array of row numbers gives an array, as of NumPy's own. Every block is compared
    with the checksum that it had when the file was opened and verified. A thread may read while
    others use HDF5, which has no part in it.
    """

    def __init__(self, path: Path, dataset: h5py.h5d.DatasetID, name: str) -> None:
        """Take a dataset of the file, which is open and stays as it is; errors call it `name`."""
        self.shape = tuple(map(int, dataset.get_space().get_simple_extent_dims()))
        self.dtype = np.dtype(dataset.dtype)
        self._path = path
        self._step = block_rows(dataset, name)
        self._size = self._step * math.prod(self.shape[1:]) * self.dtype.itemsize
        self._handle = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._handle)
        self._blocks = [
            self._find(dataset, start, name) for start in range(0, self.shape[0], self._step)
        ]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        rows = _numbers(rows, len(self))
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        blocks = rows // self._step
        for block in np.unique(blocks):
            here = np.flatnonzero(blocks == block)
            found[here] = self._read(int(block))[rows[here] - block * self._step]
        return found

    def _find(self, dataset: h5py.h5d.DatasetID, row: int, name: str) -> tuple[int, int, int]:
        """Where the block that begins at a row lies in the file: offset, bytes and checksum."""
        data = read_block(dataset, row, name)
        place = (row, *(0 for _ in self.shape[1:]))
        offset = dataset.get_chunk_info_by_coord(place).byte_offset
        # Versions of HDF5 count from the start of the file, or from the end of its user block.
        for start in (offset, offset + USER_BLOCK):
            if os.pread(self._handle, len(data), start) == data:
                return start, len(data), zlib.crc32(data)
        raise NotWhole(f"its {name} are not where they should be")

    def _read(self, block: int) -> np.ndarray:
        """The rows of a block. Raises RankError where they are no longer what they were."""
        offset, size, checksum = self._blocks[block]
        try:
            data = os.pread(self._handle, size, offset)
            if zlib.crc32(data) != checksum:
                raise NotWhole("its content has changed since it was opened")
            content = inflate(data, self._size, "rows")
        except (OSError, NotWhole) as error:
            reason = getattr(error, "strerror", None) or error
            raise RankError(
                f"can't read {self._path} any more ({reason}); mend it, and go on from the last "
                "good state with --resume",
                RankError.CORRUPT,
            ) from error
        return np.frombuffer(content, self.dtype).reshape(-1, *self.shape[1:])


class StackedRows:
    """Arrays one after the other, as `np.concatenate` makes one, which stay where they are."""

    def __init__(self, parts: Sequence[RowsOnDemand | np.ndarray]) -> None:
        """Take arrays that differ at most in their number of rows."""
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])
        self.shape = (int(self._ends[-1]), *parts[0].shape[1:])
        self.dtype = parts[0].dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        rows = _numbers(rows, len(self))
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        owners = np.searchsorted(self._ends, rows, side="right")
        for owner in np.unique(owners):
            here = np.flatnonzero(owners == owner)
            part = self._parts[owner]
            found[here] = part[rows[here] - (self._ends[owner] - len(part))]
        return found


def _numbers(rows: slice | np.ndarray, count: int) -> np.ndarray:
    """The row numbers that a slice of so many rows, or an array of numbers, stands for."""
    return np.arange(*rows.indices(count)) if isinstance(rows, slice) else rows
