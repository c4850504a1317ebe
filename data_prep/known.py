"""A known set is one whose files are published: their names, mirrors and hashes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from data_prep.raw import Arrays, Raw


class KnownSet(Protocol):
    """What download.py has to know of a set."""

    @property
    def source(self) -> str:
        """Its name as a source."""

    @property
    def title(self) -> str:
        """What messages call it."""

    @property
    def mirrors(self) -> Sequence[str]:
        """Where its files can be had, the best place first."""

    @property
    def names(self) -> Sequence[str]:
        """What it consists of."""

    def file_name(self, name: str) -> str:
        """The file on a mirror."""

    def find_file(self, folder: Path, name: str) -> Path | None:
        """The file in a folder, under any name that it may have."""

    def read_verified(self, path: Path, name: str, called: str) -> np.ndarray:
        """Read a file; UserError, which names it as `called`, for another content."""

    def read_folder(self, folder: Path) -> Arrays:
        """Read and verify all files in the folder of --raw, by name."""

    def to_raw(self, arrays: Arrays) -> Raw:
        """The data set that the files make up."""
