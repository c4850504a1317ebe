"""A node's parameters and optimizer state, kept in memory that outlives its processes.

There are two copies of everything. A step reads one and writes the other, which costs no more
than to write in place, and only when all ranks have finished is the new one marked as whole,
with its step and checksums. Whatever is killed, and whenever, one copy is whole, and the next
start goes on from there: at most the step that was being computed is lost.

A copy lies in a file of /dev/shm, in a folder that is the user's own, and is locked as long as
a process uses it:

    /dev/shm/dist_vgg-UID/RUN-START-RANK    two records, then two copies of all vectors

A record is valid where its SHA-256 is right, a copy where its vectors have the checksums of its
record. Neither MPI nor anybody else is asked whether the writer came to its end.
"""

import errno
import fcntl
import hashlib
import json
import mmap
import os
import stat
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dist_vgg.state.checksums import Cells

SHM = Path("/dev/shm")
LINE_FLOATS = 16  # in a cache line
PAGE = 4096
HEAD = struct.Struct("<8sQQ32s")  # magic, bytes of text, bytes of tables, SHA-256 of both
MAGIC = b"dvggmem1"
RECORD = 1 << 19  # bytes of a record; its numbers take at most 4,200 * 8 for each vector
STALE = 24 * 3600  # seconds for which the memory of a dead run waits for somebody to go on

Piece = tuple[int, int]


def folder() -> Path:
    """This user's folder in shared memory."""
    return SHM / f"dist_vgg-{os.geteuid()}"


def make_folder() -> Path:
    """Make it, readable by nobody else. Raises OSError where somebody else has made it."""
    path = folder()
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise PermissionError(errno.EACCES, "belongs to somebody else", str(path))
    path.chmod(0o700)
    return path


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
        """Where the checksums begin that are being noted: of each vector, and the gradient."""
        return self.offset(self.copies, 0)

    def offset(self, copy: int, vector: int) -> int:
        """Where a vector of a copy begins."""
        return self.copies * RECORD + (copy * self.vectors + vector) * self.stride


class Replica:
    """Parameters and optimizer state of a node, in one copy or two.

    `params` and `state` are those of the last whole step, until `swap` makes them the ones to
    be written to. `tables` are for the node's checksums.
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
        """Say that the current copy is whole: what it is, and the checksums in `tables`."""
        if self.path is None:
            return
        text = json.dumps({**header, "layout": vars(self.layout), "names": self.names}).encode()
        numbers = cells.starts.tobytes() + self.tables[: self.layout.vectors].tobytes()
        digest = hashlib.sha256(text + numbers).digest()
        record = HEAD.pack(MAGIC, len(text), len(numbers), digest) + text + numbers
        if len(record) > RECORD:
            return  # thousands of ranks: there is still the checkpoint
        start = self._now * RECORD
        self._memory[start : start + len(record)] = record
        if self._handle is not None:
            os.utime(self._handle)  # its name may have gone, with its user's last session

    def hold(self, path: Path, handle: int) -> None:
        """Keep the file's lock as long as this process lives."""
        self.path, self._handle = path, handle

    def keep(self) -> None:
        """Let it outlive this process; if Ctrl-C has taken its name, where there is space."""
        if self.path and not self.path.exists():
            with suppress(OSError):
                handle = new_file(self.path, len(self._memory), [(0, len(self._memory))])
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
    """Make the file of a replica; `used` says which pieces of which vectors will be written.

    Returns a handle that keeps it locked, see `new_file`, for the time until all are attached.
    """
    parts = [(0, layout.copies * RECORD), (layout.tables, layout.size - layout.tables)]
    for vector, (lo, hi) in used:
        for copy in range(layout.copies):
            parts.append((layout.offset(copy, vector) + 4 * lo, 4 * (hi - lo)))
    return new_file(path, layout.size, parts)


def new_file(path: Path, size: int, parts: Iterable[Piece]) -> int:
    """Make a file in our folder, with space for its `parts`, each (start, length); its handle.

    It gets its name only when it is locked, so an unlocked file is a dead process's. Raises
    OSError where there is no space; later there would only be a SIGBUS.
    """
    handle = -1
    try:
        make_folder()
        handle = os.open(SHM, os.O_TMPFILE | os.O_RDWR, 0o600)
        fcntl.flock(handle, fcntl.LOCK_SH)
        os.ftruncate(handle, size)
        for start, length in parts:
            if length:
                os.posix_fallocate(handle, start, length)
        make_folder()  # another run may have ended by now, and taken the empty folder along
        # With a descriptor given, however needless, Python follows the link in /proc.
        os.link(f"/proc/self/fd/{handle}", path, src_dir_fd=handle)
    except BaseException as error:  # Ctrl-C, too
        if handle >= 0:
            os.close(handle)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    return handle


def attach(path: Path, layout: Layout, names: Sequence[str]) -> Replica:
    """Use the file of a replica, and lock it against being taken for a dead run's."""
    handle = os.open(path, os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_SH)
    replica = Replica(mmap.mmap(handle, layout.size), layout, names)
    replica.hold(path, handle)
    return replica


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
        """What it has of the optimizer's state; of the parameters it has all."""
        return [(int(lo), int(hi)) for lo, hi in self.header["pieces"]]

    def claim(self) -> dict[str, Any]:
        """What it offers, for other ranks to know."""
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

    `home` is the run's folder: a copy of it is another run.
    """
    found = [copy for path in _files(f"{run}-*") for copy in _copies(path)]
    found = [copy for copy in found if copy.home == home.resolve()]
    return sorted(found, key=lambda copy: copy.step, reverse=True)


def in_use(run: str, home: Path) -> bool:
    """Whether processes of a run live on this machine, and have made a step."""
    return any(_in_use(copy.path) for copy in kept(run, home))


def is_crowded(run: str, home: Path) -> bool:
    """Whether what earlier processes of a run have left leaves no room for as much."""
    held = 0
    for path in _left(run, home):
        with suppress(FileNotFoundError):
            held += 512 * path.stat().st_blocks
    if not held:
        return False
    free = os.statvfs(SHM)
    return 2 * held > free.f_bavail * free.f_frsize


def make_room(run: str, home: Path) -> None:
    """Remove what earlier processes of a run have left on this machine."""
    for path in _left(run, home):
        path.unlink(missing_ok=True)


def _left(run: str, home: Path) -> list[Path]:
    """The files that a run's earlier processes have left; not those of a copy of the run."""
    files = [path for path in _files(f"{run}-*") if not _in_use(path)]
    return [path for path in files if _homes(path) <= {home.resolve()}]


def _files(pattern: str = "*") -> list[Path]:
    """Files in this user's folder. There are none where somebody else has made the folder."""
    with suppress(OSError):
        status = folder().lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
            return sorted(path for path in folder().glob(pattern) if path.is_file())
    return []


def _homes(path: Path) -> set[Path]:
    """The folders of the runs that a file has a copy of: one, or none where there is no record."""
    return {copy.home for copy in _copies(path)}


@contextmanager
def tidied(run: str) -> Iterator[None]:
    """Remove what is empty in the end, and all memory of a start that Ctrl-C ends at once."""
    try:
        yield
    except KeyboardInterrupt:
        for path in _files(f"{run}-*"):
            path.unlink(missing_ok=True)
        raise
    finally:
        with suppress(OSError):
            folder().rmdir()


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
    """One of the two copies in a file; None where its record is not whole."""
    record = _record(memory, copy * RECORD)
    if record is None:
        return None
    header, numbers = record
    layout = Layout(**header["layout"])
    starts, *tables = numbers.reshape(layout.vectors + 1, layout.cells)
    cells = Cells(layout.count, layout.count)
    cells.starts = starts.astype(np.int64)
    vectors = [
        np.frombuffer(memory, np.float32, layout.count, layout.offset(copy, vector))
        for vector in range(layout.vectors)
    ]
    return Kept(path, header, vectors, cells, np.array(tables))


def _record(memory: mmap.mmap, start: int) -> tuple[dict[str, Any], np.ndarray] | None:
    """Header and numbers of the record at a place, if it is whole."""
    if start + HEAD.size > len(memory):
        return None
    magic, text, numbers, digest = HEAD.unpack_from(memory, start)
    end = start + HEAD.size + text + numbers
    if magic != MAGIC or end > min(start + RECORD, len(memory)):
        return None
    content = memory[start + HEAD.size : end]
    if hashlib.sha256(content).digest() != digest:
        return None
    return json.loads(content[:text]), np.frombuffer(content[text:], np.uint64)


def remove_stale(home: Path, ours: Path | None) -> None:
    """Remove what earlier processes of this run have left, but not `ours`, and what is stale.

    Memory is stale where no process uses it and its run's folder is gone, or nobody has gone
    on with it for a day.
    """
    for path in _files():
        with suppress(OSError):
            if path == ours or _in_use(path):
                continue
            homes = _homes(path)
            wanted = any(other.exists() for other in homes - {home.resolve()})
            if not wanted or time.time() - path.stat().st_mtime > STALE:
                path.unlink()


def _in_use(path: Path) -> bool:
    """Whether a process has the file locked."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
