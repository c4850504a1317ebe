"""Which files in /dev/shm a test's own processes use, while other tests use others."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SHM = Path("/dev/shm")
SECONDS = 0.05  # between two looks; what is lost in between was used for less than that


@contextmanager
def watched(mark: str) -> Iterator[set[Path]]:
    """Collect what new processes map in shared memory, those with `mark` in their environment."""
    found: set[Path] = set()
    done = threading.Event()
    old = pids()

    def look() -> None:
        while not done.wait(SECONDS):
            for pid in pids() - old:
                found.update(mapped(pid, mark.encode()))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()


def pids() -> set[int]:
    """All processes of this machine."""
    return {int(path.name) for path in Path("/proc").glob("[0-9]*")}


def mapped(pid: int, mark: bytes) -> set[Path]:
    """The files in shared memory that a process writes to and that still have a name."""
    with suppress(OSError):  # it has ended, or is somebody else's
        if mark in Path(f"/proc/{pid}/environ").read_bytes():
            maps = Path(f"/proc/{pid}/maps").read_text(errors="replace")
            # Not what it only reads: to tidy up it looks at what all others have left, too.
            return set(map(Path, re.findall(rf"^\S+ .w.*?({SHM}/\S+)$", maps, re.MULTILINE)))
    return set()
