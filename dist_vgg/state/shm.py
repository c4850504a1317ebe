"""Files in /dev/shm: memory that has a name, outlives its processes, and goes when Linux restarts.

All of ours lie in one folder that only this user can read. A process keeps each file that it
uses locked, so a file without a lock belongs to a dead process, and nobody has to be asked.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

SHM = Path("/dev/shm")


def folder() -> Path:
    """This user's folder in shared memory."""
    return SHM / f"dist_vgg-{os.geteuid()}"


def make_folder() -> Path:
    """Make the folder, for this user alone. Raises OSError where somebody else has made it."""
    path = folder()
    while True:
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        with suppress(FileNotFoundError):  # another run has ended, and removed the empty folder
            if not _is_ours(path):
                raise PermissionError(errno.EACCES, "belongs to somebody else", str(path))
            path.chmod(0o700)
            return path


def files(pattern: str = "*") -> list[Path]:
    """The files in this user's folder; none where somebody else has made the folder."""
    with suppress(OSError):
        if _is_ours(folder()):
            return sorted(path for path in folder().glob(pattern) if path.is_file())
    return []


def _is_ours(path: Path) -> bool:
    """Whether a path is a folder, not a link to one, and this user's."""
    status = path.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def new_file(path: Path, size: int, parts: Iterable[tuple[int, int]]) -> int:
    """Make a locked file of `size` bytes in the folder; returns its handle.

    `parts` are the (start, length) that will be written: they get their memory now. Raises
    OSError where there is too little; a write would later end the process by SIGBUS.
    """
    handle = -1
    try:
        make_folder()
        # The file gets its name only when it is locked, so nobody takes it for a dead process's.
        handle = os.open(SHM, os.O_TMPFILE | os.O_RDWR, 0o600)
        fcntl.flock(handle, fcntl.LOCK_SH)
        os.ftruncate(handle, size)
        for start, length in parts:
            if length:
                os.posix_fallocate(handle, start, length)
        make_folder()  # another run may have ended meanwhile, and removed the empty folder
        # Python follows the link in /proc only where it is given a descriptor, however needless.
        os.link(f"/proc/self/fd/{handle}", path, src_dir_fd=handle)
    except BaseException as error:  # Ctrl-C, too
        if handle >= 0:
            os.close(handle)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    return handle


def open_locked(path: Path) -> int:
    """Open a file to use it, and lock it as long as the handle is open."""
    handle = os.open(path, os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_SH)
    return handle


def is_locked(path: Path) -> bool:
    """Whether a living process uses the file."""
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


def bytes_free() -> int:
    """Bytes that new files and MPI's shared windows may take. MPICH dies of SIGBUS beyond them."""
    if not SHM.is_dir():
        return 0
    status = os.statvfs(SHM)
    return status.f_bavail * status.f_frsize
