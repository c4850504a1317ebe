"""A file is either whole or not there: it is written beside, flushed to disk, and renamed.

An HDF5 file of ours begins with a line of text, in the user block that HDF5 leaves to others:

    dist_vgg 2 sha256 <SHA-256 of all that follows the block, in hexadecimal>

libhdf5 may crash or hang on a file in whose structure a single bit has changed, so a file is hashed
before any of it is parsed.
"""

import errno
import fcntl
import hashlib
import io
import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import h5py

from dist_vgg.base.errors import STOPS, UserError
from dist_vgg.base.observe import Event

SCHEMA = 2
USER_BLOCK = 512  # bytes, the smallest that HDF5 has
HASH_BYTES = 1 << 20  # bytes hashed or written at a time

_locked: dict[Path, int] = {}  # by this process, until it ends, with the handles
progress = Event()  # a part of a file has been hashed or written


class NotWhole(ValueError):
    """A file is not what this program wrote; the message says in what way, in a few words."""


def fsync(path: Path) -> None:
    """Have the operating system put a file or folder on the disk before going on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def lock(folder: Path) -> bool:
    """Lock a folder for this process until it ends; False if another process has it.

    A file system without locks of folders, such as NFS, keeps nobody out.
    """
    path = folder.resolve()
    if path not in _locked:
        handle = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        except OSError:
            pass  # a file system without locks
        _locked[path] = handle
    return True


@contextmanager
def undisturbed() -> Iterator[None]:
    """Delay the handlers of signals, which may raise as Ctrl-C's does, to the end of the block.

    HDF5 calls back into Python to read and write. It swallows an exception that is raised there,
    and loses the data.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    usual = {number: signal.getsignal(number) for number in STOPS}
    held = {number: handler for number, handler in usual.items() if callable(handler)}
    for held_back in held:
        signal.signal(held_back, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
        for again in came:
            signal.raise_signal(again)


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to, and rename it to `path` if all goes well.

    If anything goes wrong, `path` stays as it was and nothing is left beside it.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield beside
        fsync(beside)
        beside.replace(path)
        fsync(path.parent)
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


class _Sink(io.FileIO):
    """A file that keeps its first error for later.

    HDF5 crashes with a segmentation fault if it can't write a chunk while closing (full disk). So
    it never learns of an error; whoever opened the sink looks at `error` afterwards.
    """

    error: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        try:
            while done < len(view) and not self.error:
                done += super().write(view[done : done + HASH_BYTES]) or 0
                progress()
        except OSError as error:
            self.error = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0


@contextmanager
def whole_hdf5(
    path: Path, what: str, check: Callable[[h5py.File], object] | None = None
) -> Iterator[h5py.File]:
    """Write an HDF5 file that is either whole or not there.

    It is read back before it replaces an older one. `check` may then raise if the content is not
    what it was meant to be: the digest only tells that nothing has changed since it was made.
    `what` names the content in the UserError for a full, read-only or missing folder.
    """
    try:
        with written_beside(path) as beside:
            with undisturbed(), _Sink(beside, "w+") as sink:
                try:
                    with h5py.File(sink, "w", userblock_size=USER_BLOCK) as file:
                        yield file
                finally:
                    if sink.error:
                        raise sink.error
            seal(beside)
            fsync(beside)
            if not is_whole(beside, check):
                raise UserError(
                    f"{what} for {path} does not read back as it was written; "
                    "the disk or the memory is failing: choose another folder or machine"
                )
    except OSError as error:
        raise UserError(
            f"can't write {what} to {path}: {_reason(error)}; free space or choose another folder"
        ) from error


def seal(path: Path) -> None:
    """Write the first line of an HDF5 file with a user block: the digest of what follows it."""
    with path.open("r+b") as file:
        line = _first_line(file)
        file.seek(0)
        file.write(line)


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file of ours, after verifying that every byte is what was written.

    Raises NotWhole for any other file, and OSError if the system can't open it.
    """
    with undisturbed(), _verified(path) as file, h5py.File(file, "r") as content:
        yield content


def is_whole(path: Path, check: Callable[[h5py.File], object] | None = None) -> bool:
    """Whether the disk holds an HDF5 file of ours as it was written; `check` then sees it."""
    try:
        with _verified(path, from_disk=True) as file:
            if check:
                with undisturbed(), h5py.File(file, "r") as content:
                    check(content)
            return True
    except (OSError, NotWhole):
        return False


@contextmanager
def _verified(path: Path, from_disk: bool = False) -> Iterator[BinaryIO]:
    """The open file itself, for whoever parses it: by then its name may be another file's."""
    if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait, a device never end
        raise NotWhole("it is no file")
    with path.open("rb") as file:
        if from_disk and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        found = file.read(USER_BLOCK)
        ours, schema = b"dist_vgg ", b"dist_vgg %d " % SCHEMA
        if found.startswith((b"\x89HDF\r\n\x1a\n", ours)) and not found.startswith(schema):
            raise NotWhole(f"it is not of schema {SCHEMA}, or not of ours")
        if not found.startswith(schema):
            raise NotWhole("dist_vgg did not write it")
        if found != _first_line(file):
            raise NotWhole("its content is not what was written")
        file.seek(0)
        yield file


def _first_line(file: BinaryIO) -> bytes:
    """The whole user block that belongs to what follows it, (USER_BLOCK,) bytes."""
    digest = hashlib.sha256()
    file.seek(USER_BLOCK)
    while piece := file.read(HASH_BYTES):
        digest.update(piece)
        progress()
    line = b"dist_vgg %d sha256 %s\n" % (SCHEMA, digest.hexdigest().encode())
    return line.ljust(USER_BLOCK, b"\0")


def check_writable(flag: str, path: Path) -> None:
    """Raise UserError, before any work is done, where a file of an option could not be written."""
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
        beside.touch()
        beside.unlink()
    except OSError as error:
        raise UserError(
            f"can't write {flag} {path}: {_reason(error)}; name a file in a folder that exists"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a small text file that is either whole or not there."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a small file that is either whole or not there."""
    try:
        with written_beside(path) as beside:
            beside.write_bytes(data)
    except OSError as error:
        raise UserError(
            f"can't write {path}: {_reason(error)}; free space or choose another folder"
        ) from error


def _reason(error: OSError) -> str:
    """The operating system's own words."""
    return error.strerror or str(error).partition("\n")[0]
