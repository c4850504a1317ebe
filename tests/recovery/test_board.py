"""The board: it needs no shared memory."""

import errno
import os
import tempfile
from pathlib import Path

import pytest

from dist_vgg.recovery import board
from dist_vgg.state import shm


def test_the_watch_needs_no_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (small := tmp_path / "shm").mkdir()
    fallocate = os.posix_fallocate

    def full(handle: int, start: int, size: int) -> None:
        if Path(f"/proc/self/fd/{handle}").readlink().is_relative_to(small):
            raise OSError(errno.ENOSPC, "No space left on device")
        fallocate(handle, start, size)

    monkeypatch.setattr(shm, "SHM", small)
    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path, handle = board.new_file(100)
    assert Path(path).read_bytes() == bytes(100)
    os.close(handle)
    assert [path.name[:6] for path in tmp_path.iterdir() if path.is_file()] == ["dist_v"]
    assert not [path for path in small.rglob("*") if path.is_file()]
