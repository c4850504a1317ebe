"""Files in shared memory: whose they are, how they come to be, and whether they are in use."""

import os
import stat
from pathlib import Path

import pytest
from replicas import opened

from dist_vgg.state import shm


def test_it_belongs_to_the_user_alone(shm_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = opened()
    assert memory.path
    assert stat.S_IMODE(memory.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(memory.path.parent.stat().st_mode) == 0o700
    memory.remove()
    assert list(shm_folder.iterdir()) == []
    shm.folder().symlink_to(shm_folder)
    with pytest.raises(OSError, match="belongs to somebody else"):
        shm.make_folder()
    shm.folder().unlink()
    shm.folder().mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    (shm_folder / "dist_vgg-12345").mkdir()
    with pytest.raises(OSError, match="belongs to somebody else"):
        shm.make_folder()


def test_the_folder_may_go_as_it_is_made(shm_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    is_ours = shm._is_ours

    def slow(path: Path) -> bool:
        path.rmdir()  # by another run that ends
        monkeypatch.setattr(shm, "_is_ours", is_ours)
        return is_ours(path)

    monkeypatch.setattr(shm, "_is_ours", slow)
    assert shm.make_folder().is_dir()


def test_the_folder_may_go_while_a_file_is_made(
    shm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allocate = os.posix_fallocate

    def slow(handle: int, start: int, length: int) -> None:
        shm.folder().rmdir()  # by another run that ends
        monkeypatch.setattr(os, "posix_fallocate", allocate)

    monkeypatch.setattr(os, "posix_fallocate", slow)
    memory = opened()
    assert memory.path
    assert memory.path.exists()


def test_no_space_is_told_before_anything_is_written(
    shm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int, start: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"No space left on device: .*run-0-"):
        opened()
    assert list(shm.folder().iterdir()) == []


def test_a_file_is_locked_as_long_as_somebody_has_it_open(shm_folder: Path) -> None:
    path = shm.folder() / "some"
    assert not shm.is_locked(path)
    first = shm.new_file(path, 100, [(0, 100)])
    second = shm.open_locked(path)
    os.close(first)
    assert shm.is_locked(path)
    os.close(second)
    assert not shm.is_locked(path)
    assert shm.files() == shm.files("so*") == [path]
    assert shm.files("other*") == []


def test_small_shared_memory_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shm, "SHM", Path(__file__).parent)
    assert 0 < shm.bytes_free() < 1 << 62
    monkeypatch.setattr(shm, "SHM", Path("/no/such/folder"))
    assert shm.bytes_free() == 0
