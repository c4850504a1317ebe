"""A node's parameters and optimizer state, in one copy or two.

With two copies a step reads one and writes the other, which costs no more than to write in
place. Only when all ranks have finished does `commit` mark the new copy as whole, with its step
and checksums. Whatever kills the processes, and whenever, one copy is whole, and a later start
goes on from it: the step that was being computed is lost, and the one before where its parameters
were still arriving. See standby.py for that start.

Two copies lie in a file of /dev/shm, which each process locks as long as it uses it:

    /dev/shm/dist_vgg-UID/RUN-START-RANK    two records, two copies of all vectors, checksums
"""

import mmap
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dist_vgg.state import record, shm
from dist_vgg.state.checksums import Cells
from dist_vgg.state.record import RECORD

LINE_FLOATS = 16  # in a cache line

Piece = tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """Where everything lies in a replica's memory."""

    count: int  # numbers of a vector
    vectors: int  # the parameters, and each vector of the optimizer's state
    copies: int
    cells: int  # of a vector, see checksums

    @property
    def stride(self) -> int:
        """Bytes from one vector to the next."""
        return -(-self.count // LINE_FLOATS) * LINE_FLOATS * 4

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self.tables + 8 * (self.vectors + 1) * self.cells

    @property
    def tables(self) -> int:
        """Where the checksums begin that a step notes: of each vector, and of the gradient."""
        return self.offset(self.copies, 0)

    def offset(self, copy: int, vector: int) -> int:
        """Where a vector of a copy begins."""
        return self.copies * RECORD + (copy * self.vectors + vector) * self.stride


class Replica:
    """Parameters and optimizer state of a node.

    `params` and `state` are those of the last whole step, until `swap` makes them the ones to
    be written to. `tables` are for the node's checksums: (vectors + 1, cells) uint64.
    """

    def __init__(self, memory: mmap.mmap, layout: Layout, names: Sequence[str]) -> None:
        self.layout, self.names = layout, list(names)
        self.path: Path | None = None  # of the file, if it is to outlive this process
        self._memory = memory
        self._handle: int | None = None
        self._copies = [
            [
                np.frombuffer(memory, np.float32, layout.count, layout.offset(copy, vector))
                for vector in range(layout.vectors)
            ]
            for copy in range(layout.copies)
        ]
        numbers = (layout.vectors + 1) * layout.cells
        self.tables = np.frombuffer(memory, np.uint64, numbers, layout.tables)
        self.tables = self.tables.reshape(layout.vectors + 1, layout.cells)
        self._now = 0
        self._bind()

    def _bind(self) -> None:
        self.params, *state = self._copies[self._now]
        self.state = dict(zip(self.names, state, strict=True))

    def swap(self) -> None:
        """From now on write to the other copy; what was read stays as it is."""
        self._now = (self._now + 1) % len(self._copies)
        self._bind()

    def commit(self, header: Mapping[str, Any], cells: Cells) -> None:
        """Mark the current copy as whole, with what it is and the checksums in `tables`."""
        if self.path is None:
            return
        numbers = cells.starts.tobytes() + self.tables[: self.layout.vectors].tobytes()
        own = {"layout": vars(self.layout), "names": self.names}
        content = record.pack({**header, **own}, numbers)
        if len(content) > RECORD:
            return  # thousands of ranks: there is still the checkpoint
        start = self._now * RECORD
        self._memory[start : start + len(content)] = content
        if self._handle is not None:
            os.utime(self._handle)  # the name may have gone, with the user's last session

    def hold(self, path: Path, handle: int) -> None:
        """Keep the file's lock as long as this process lives."""
        self.path, self._handle = path, handle

    def keep(self) -> None:
        """Let it outlive this process: by a copy, if Ctrl-C took its name and there is space."""
        if self.path and not self.path.exists():
            with suppress(OSError):
                handle = shm.new_file(self.path, len(self._memory), [(0, len(self._memory))])
                with mmap.mmap(handle, len(self._memory)) as copy:
                    copy[:] = self._memory
                os.close(handle)

    def remove(self) -> None:
        """Let nothing outlive this process. The arrays stay usable."""
        path, self.path = self.path, None
        if path:
            path.unlink(missing_ok=True)
            with suppress(OSError):
                path.parent.rmdir()


def private(layout: Layout, names: Sequence[str]) -> Replica:
    """A replica in memory of this process alone."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    return Replica(mmap.mmap(-1, layout.size, flags), layout, names)


def create(path: Path, layout: Layout, used: Iterable[tuple[int, Piece]]) -> int:
    """Make the file of a replica; `used` has (vector, piece) for all that will be written.

    Returns a handle that keeps it locked until every process has attached, see `shm.new_file`.
    """
    parts = [(0, layout.copies * RECORD), (layout.tables, layout.size - layout.tables)]
    for vector, (lo, hi) in used:
        for copy in range(layout.copies):
            parts.append((layout.offset(copy, vector) + 4 * lo, 4 * (hi - lo)))
    return shm.new_file(path, layout.size, parts)


def attach(path: Path, layout: Layout, names: Sequence[str]) -> Replica:
    """Use the file of a replica, and lock it."""
    handle = shm.open_locked(path)
    replica = Replica(mmap.mmap(handle, layout.size), layout, names)
    replica.hold(path, handle)
    return replica
