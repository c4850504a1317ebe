"""A file is either whole or not there: written beside, flushed to disk, renamed."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py

from dist_vgg.errors import UserError


def fsync(path: Path) -> None:
    """Have the operating system put a file or folder on the disk before going on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; rename it to `path` when all went well.

    Whatever goes wrong, `path` is what it was before and nothing is left beside it.
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

    HDF5 ends the process with a segmentation fault where it can't write a chunk (full disk)
    while closing. So it is not told; whoever opened the sink asks for `error` afterwards.
    """

    error: BaseException | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        try:
            while done < len(view) and not self.error:
                done += super().write(view[done:]) or 0
        except BaseException as error:  # also Ctrl-C, which may come here too
            self.error = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0


@contextmanager
def whole_hdf5(path: Path, what: str) -> Iterator[h5py.File]:
    """Write an HDF5 file that is either whole or not there.

    `what` names the file's content in the UserError for a full, read-only or missing folder.
    """
    try:
        with written_beside(path) as beside, _Sink(beside, "w+") as sink:
            try:
                with h5py.File(sink, "w") as file:
                    yield file
            finally:
                if sink.error:
                    raise sink.error
    except OSError as error:
        raise UserError(
            f"can't write {what} to {path}: {_reason(error)}; "
            "free space or choose another folder, then run again"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a small text file that is either whole or not there."""
    try:
        with written_beside(path) as beside:
            beside.write_text(text)
    except OSError as error:
        raise UserError(
            f"can't write {path}: {_reason(error)}; free space or choose another folder"
        ) from error


def _reason(error: OSError) -> str:
    """The operating system's own words."""
    return error.strerror or str(error).partition("\n")[0]
