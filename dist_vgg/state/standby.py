"""What earlier processes of a run have left in shared memory: found, verified, and removed.

A copy can be trusted where its record is valid and its vectors have the checksums of the record.
No process, MPI or other, is asked whether its writer came to its end.
"""

import mmap
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dist_vgg.state import record, shm
from dist_vgg.state.checksums import Cells
from dist_vgg.state.record import RECORD
from dist_vgg.state.replica import Layout, Piece

STALE = 24 * 3600  # seconds for which the memory of a dead run waits for somebody to go on


@dataclass
class Kept:
    """A copy that a process has left behind; see `verify` for whether it is whole."""

    path: Path
    header: dict[str, Any]
    vectors: list[np.ndarray]
    cells: Cells
    tables: np.ndarray

    @property
    def step(self) -> int:
        return int(self.header["step"])

    @property
    def home(self) -> Path:
        """The folder of its run."""
        return Path(self.header.get("folder", ""))

    @property
    def owned(self) -> list[Piece]:
        """The slices of the optimizer's state that it has; of the parameters it has all."""
        return [(int(lo), int(hi)) for lo, hi in self.header["pieces"]]

    def claim(self) -> dict[str, Any]:
        """What other ranks need to know of it."""
        parts = dict(step=self.step, count=self.cells.count, names=self.header["names"])
        return dict(**parts, pieces=self.owned, header=self.header)

    def verify(self) -> bool:
        """Whether every number is the one that was written."""
        count = self.cells.count
        pieces = [[(0, count)], *[self.owned] * (len(self.vectors) - 1)]
        return all(
            np.array_equal(self.cells.sums(vector, lo, hi), table[self.cells.within(lo, hi)])
            for vector, table, parts in zip(self.vectors, self.tables, pieces, strict=True)
            for lo, hi in parts
        )


def kept(run: str, home: Path) -> list[Kept]:
    """The copies that earlier processes of a run have left on this machine, newest first.

    `home` is the run's folder: a copy of that folder is another run.
    """
    found = [copy for path in shm.files(f"{run}-*") for copy in _copies(path)]
    found = [copy for copy in found if copy.home == home.resolve()]
    return sorted(found, key=lambda copy: copy.step, reverse=True)


def in_use(run: str, home: Path) -> bool:
    """Whether processes of a run live on this machine, and have made a step."""
    return any(shm.is_locked(copy.path) for copy in kept(run, home))


def is_crowded(run: str, home: Path) -> bool:
    """Whether less than twice the memory that earlier processes of a run have left is free."""
    held = 0
    for path in _left(run, home):
        with suppress(FileNotFoundError):
            held += 512 * path.stat().st_blocks
    return held > 0 and 2 * held > shm.bytes_free()


def make_room(run: str, home: Path) -> None:
    """Remove what earlier processes of a run have left on this machine."""
    for path in _left(run, home):
        path.unlink(missing_ok=True)


def remove_stale(home: Path, ours: Path | None) -> None:
    """Remove what earlier processes of this run have left, but not `ours`, and what is stale.

    A file is stale where no process uses it and its run's folder is gone, or nobody has gone on
    with it for a day.
    """
    for path in shm.files():
        with suppress(OSError):
            if path == ours or shm.is_locked(path):
                continue
            homes = _homes(path)
            wanted = any(other.exists() for other in homes - {home.resolve()})
            if not wanted or time.time() - path.stat().st_mtime > STALE:
                path.unlink()


@contextmanager
def tidied(standby: str) -> Iterator[None]:
    """Remove what is empty in the end, and all memory of a start that Ctrl-C ends at once."""
    try:
        yield
    except KeyboardInterrupt:
        for path in shm.files(f"{standby}-*"):
            path.unlink(missing_ok=True)
        raise
    finally:
        with suppress(OSError):
            shm.folder().rmdir()


def _left(run: str, home: Path) -> list[Path]:
    """The files that a run's earlier processes have left; not those of a copy of its folder."""
    files = [path for path in shm.files(f"{run}-*") if not shm.is_locked(path)]
    return [path for path in files if _homes(path) <= {home.resolve()}]


def _homes(path: Path) -> set[Path]:
    """The folders of the runs that a file has a copy of: one, or none where there is no record."""
    return {copy.home for copy in _copies(path)}


def _copies(path: Path) -> Iterator[Kept]:
    """The copies in a file whose records are valid."""
    try:
        with path.open("rb") as file:
            # Our own user's file, but of any length and content.
            memory = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    except (OSError, ValueError):
        return
    for copy in range(2):
        # Another version of this program may have written other things.
        with suppress(KeyError, TypeError, ValueError):
            found = _kept(path, memory, copy)
            if found:
                yield found


def _kept(path: Path, memory: mmap.mmap, copy: int) -> Kept | None:
    """One of the two copies in a file; None where its record is not valid."""
    found = record.unpack(memory, copy * RECORD)
    if found is None:
        return None
    header, numbers = found
    layout = Layout(**header["layout"])
    starts, *tables = numbers.reshape(layout.vectors + 1, layout.cells)
    cells = Cells(layout.count, layout.count)
    cells.starts = starts.astype(np.int64)
    vectors = [
        np.frombuffer(memory, np.float32, layout.count, layout.offset(copy, vector))
        for vector in range(layout.vectors)
    ]
    return Kept(path, header, vectors, cells, np.array(tables))
