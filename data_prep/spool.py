"""The spool holds the pixels of a split on disk until they are written as shards.

So memory stays small however large a set is. The file has no name: it is gone when the command
ends, however it ends.
"""

import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np

from dist_vgg.base.errors import UserError


class Spool:
    """Rows of uint8 that are appended once and read back in any order, as from an array.

    Rows are read by an offset and not mapped, since pages of a map would count as memory.
    """

    def __init__(self, folder: Path, row_shape: tuple[int, ...]) -> None:
        """The file lies in a folder, on the disk that shards are written to."""
        self._folder, self._row_shape = folder, row_shape
        self._row_bytes = int(np.prod(row_shape))
        self._rows = 0
        self._file = TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115

    def close(self) -> None:
        """Give the disk's space back."""
        self._file.close()

    def __len__(self) -> int:
        return self._rows

    @property
    def shape(self) -> tuple[int, ...]:
        """As an array has it: (rows, height, width, channels)."""
        return (self._rows, *self._row_shape)

    def append(self, row: np.ndarray) -> None:
        """Add a row at the end; UserError where the disk takes no more."""
        left = memoryview(row.tobytes())
        try:
            while left:
                left = left[os.write(self._file.fileno(), left) :]
        except OSError as error:
            raise UserError(
                f"can't write pixels to {self._folder.parent}: {error.strerror}; "
                "free space or choose another folder"
            ) from error
        self._rows += 1

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """The rows of a slice, or those with these numbers, as one array."""
        wanted = np.arange(self._rows)[rows]
        found = np.empty((len(wanted), *self._row_shape), np.uint8)
        # Neighbours in the file are read at once.
        edges = [*np.flatnonzero(np.diff(wanted, prepend=-2) != 1), len(wanted)]
        for start, end in pairwise(edges):
            into = memoryview(found[start:end].data).cast("B")
            place = int(wanted[start]) * self._row_bytes
            while into:
                count = os.preadv(self._file.fileno(), [into], place)
                if not count:
                    raise OSError(f"the pixels in {self._folder} are cut short")
                into, place = into[count:], place + count
        return found

    def select(self, rows: np.ndarray) -> "Selected":
        """Some of the rows, in this order; nothing is read yet."""
        return Selected(self, rows)


@dataclass(frozen=True)
class Selected:
    """Rows of a spool that are read when they are asked for."""

    spool: Spool
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """As an array has it: (rows, height, width, channels)."""
        return (len(self.rows), *self.spool.shape[1:])

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        return self.spool[self.rows[rows]]
