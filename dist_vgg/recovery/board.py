"""The board on which the ranks of a host note their heartbeats, in memory that they share."""

import mmap
import os
import struct
import tempfile
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dist_vgg.mpi.collectives import allgather_text, barrier
from dist_vgg.state import shm

if TYPE_CHECKING:
    from mpi4py import MPI

ENTRY = struct.Struct("<iiqqi100s")  # a Heartbeat


class Heartbeat(NamedTuple):
    """A rank's entry on the board."""

    rank: int
    pid: int
    beats: int  # changes with every sign of progress; negative: finished
    step: int
    waits: int  # whether it waits for other ranks
    done: bytes  # what it did last


@dataclass
class RankStatus:
    """What is known of a rank."""

    rank: int
    host: str
    pid: int
    step: int
    done: str  # what it did last
    waits: bool
    quiet: float = 0.0  # seconds since its last sign of progress
    state: str = ""  # "stopped" or "dead", where its own host sees that

    @property
    def stalls(self) -> bool:
        """Whether it does anything other than wait for other ranks."""
        return not self.waits or bool(self.state)

    def describe(self) -> str:
        """Say who it is, for how long it has been quiet, and what it did last."""
        what = self.state or ("waiting for other ranks" if self.waits else "busy or hanging")
        return (
            f"rank {self.rank} on {self.host} (pid {self.pid}) has made no progress for "
            f"{self.quiet:.0f} s: {what}, in step {self.step} after: {self.done}"
        )


class Board:
    """A host's board: each of its ranks writes its own entry and reads all of them."""

    def __init__(self, host: "MPI.Intracomm", rank: int) -> None:
        """`host` has the ranks of this host; `rank` is this one's number in the whole job."""
        self._ranks, self._local = host.size, host.rank
        # Shared by name for a moment only: nothing stays behind, however the job ends.
        size = ENTRY.size * host.size + 1
        path, handle = new_file(size) if host.rank == 0 else ("", -1)
        path = allgather_text(host, path)[0]
        with Path(path).open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), size)
        barrier(host)
        if host.rank == 0:
            Path(path).unlink()
            os.close(handle)
        self._rank, self._beats, self._step, self._done = rank, 0, 0, "start"
        self._waits = False
        self._write()

    def beat(self, done: str, step: int) -> None:
        """Note progress: what this rank has done, and in which step."""
        self._beats += 1
        self._step, self._done = step, done
        self._write()

    def alive(self) -> None:
        """Note progress in what this rank is still doing."""
        if threading.current_thread() is threading.main_thread():
            self._beats += 1
            self._write()

    def waiting(self, now: bool) -> None:
        """Note that this rank begins or ends to wait for others."""
        # The thread that sends gradients waits as well, but holds nobody up.
        if threading.current_thread() is threading.main_thread():
            self._waits = now
            self._beats += 1  # the time of others is not this rank's
            self._write()

    def finish(self) -> None:
        """Note that this rank needs no watchdog any more."""
        self._beats = -1
        self._write()

    def _write(self) -> None:
        entry = Heartbeat(
            self._rank, os.getpid(), self._beats, self._step, self._waits, self._done.encode()[:100]
        )
        ENTRY.pack_into(self._memory, ENTRY.size * self._local, *entry)

    def claim_report(self) -> bool:
        """Whether this is the host's first call: only the first caller reports a stall."""
        first, self._memory[-1] = self._memory[-1] == 0, 1
        return first

    def heartbeats(self) -> list[Heartbeat]:
        """The entries of all ranks of this host."""
        offsets = range(0, ENTRY.size * self._ranks, ENTRY.size)
        return [Heartbeat(*ENTRY.unpack_from(self._memory, offset)) for offset in offsets]


def new_file(size: int) -> tuple[str, int]:
    """A file of that size, zeros, in shared memory, or where it can't be had, on disk.

    Returns its path, and a handle to be closed when all have it open.
    """
    try:
        path = shm.folder() / f"board-{uuid.uuid4().hex[:16]}"
        return str(path), shm.new_file(path, size, [(0, size)])
    except (OSError, AttributeError):  # it is full, say, or this is no Linux
        handle, name = tempfile.mkstemp(prefix="dist_vgg-board-")
        os.write(handle, bytes(size))
        return name, handle
