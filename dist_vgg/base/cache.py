"""Folders and files of this user alone, for what can be made again: downloads, compiled code."""

import errno
import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs

from dist_vgg.base.files import written_beside

SHM = Path("/dev/shm")
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def cache_folder() -> Path | None:
    """The folder named by DIST_VGG_CACHE, else the system's cache folder for this program.

    None where neither is known, as for a user without a home folder.
    """
    if named := os.environ.get("DIST_VGG_CACHE"):
        return Path(named)
    try:
        folder = Path(platformdirs.user_cache_dir("dist_vgg"))
    except RuntimeError:
        return None
    return folder if folder.is_absolute() else None  # "~/.cache" where nobody knows what ~ is


def private_folders(name: str) -> list[Path]:
    """Where this user's files of one kind may lie, the best place first.

    All processes of a user on a machine have the same list. None of the folders need exist, or
    be of use: see `make_private`.
    """
    cache, mine = cache_folder(), f"dist_vgg-{name}-{os.geteuid()}"
    folders = [cache / name] if cache else []
    with suppress(FileNotFoundError):  # no folder for temporary files
        folders.append(Path(tempfile.gettempdir()) / mine)
    return [*folders, SHM / mine]


def make_private(folder: Path) -> None:
    """Make a folder for this user alone; OSError if it can't be, or if others may write to it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or not _private(status):
        raise PermissionError(errno.EPERM, "others may write to it", str(folder))


def write_private(path: Path, data: bytes) -> None:
    """Write a file for `read_private`: whole or not there, and for this user alone."""
    with written_beside(path) as beside:
        beside.touch(0o600)
        beside.write_bytes(_first_line(path, data) + data)


def read_private(path: Path) -> bytes | None:
    """What `write_private` wrote; None if the file is missing, damaged or from somebody else.

    The open file is judged, since its name may be another's by then. So the bytes are this user's
    own in whatever folder they lie.
    """
    try:
        # A link is not followed, and a pipe not waited for.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode) or not _private(status):
                return None
            line, data = file.readline(), file.read()
    except OSError:
        return None
    return data if line == _first_line(path, data) else None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file's lock; wait, without using the processor, while another process holds it.

    The lock ends with its process, however that ends. A file system without locks, as NFS may be,
    keeps nobody out.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        os.utime(handle)
        yield
    finally:
        os.close(handle)


def _private(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & WRITABLE_BY_OTHERS


def _first_line(path: Path, data: bytes) -> bytes:
    """The digest of a file's name and content, so that no file passes for another."""
    digest = hashlib.sha256(f"{path.parent.name}/{path.name}\n".encode() + data)
    return f"dist_vgg private {digest.hexdigest()}\n".encode()
