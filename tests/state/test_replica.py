"""Memory that outlives its process: which copy is whole, whose it is, and when it goes."""

import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dist_vgg.state import replica
from dist_vgg.state.checksums import Cells
from dist_vgg.state.replica import RECORD, Layout, Replica

COUNT = 1001
CELLS = Cells(COUNT, 256)
LAYOUT = Layout(COUNT, vectors=2, copies=2, cells=len(CELLS))


@pytest.fixture
def shm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(replica, "SHM", tmp_path)
    yield tmp_path


def opened(run: str = "run") -> Replica:
    path = replica.folder() / f"{run}-0-{os.getpid()}"
    handle = replica.create(path, LAYOUT, [(0, (0, COUNT)), (1, (0, 512))])
    memory = replica.attach(path, LAYOUT, ["momentum"])
    os.close(handle)
    return memory


def write(memory: Replica, step: int, home: Path) -> None:
    """Fill the current copy and mark it, as the end of a step does."""
    vectors = (memory.params, memory.state["momentum"])
    for number, vector in enumerate(vectors):
        vector[:512] = step + number / 2
    memory.tables[:2] = [CELLS.sums(vector, 0, COUNT) for vector in vectors]
    header: dict[str, Any] = dict(step=step, folder=str(home.resolve()), pieces=[(0, 512)])
    memory.commit(header, CELLS)


def test_two_steps_are_kept_and_the_newest_comes_first(shm: Path) -> None:
    memory = opened()
    for step in range(5):
        write(memory, step, shm)
        memory.swap()
    copies = replica.kept("run", shm)
    assert [copy.step for copy in copies] == [4, 3]
    assert all(copy.verify() for copy in copies)
    assert copies[0].vectors[1][:512].tolist() == [4.5] * 512
    assert replica.kept("ru", shm) == replica.kept("other", shm) == []


def test_a_copy_that_is_being_written_is_not_whole(shm: Path) -> None:
    memory = opened()
    for step in range(3):
        write(memory, step, shm)
        memory.swap()
    memory.params[5] = 7  # the process dies here
    newest, torn = replica.kept("run", shm)
    assert (newest.step, newest.verify()) == (2, True)
    assert (torn.step, torn.verify()) == (1, False)


@pytest.mark.parametrize("vector", [0, 1])
@pytest.mark.parametrize("bit", [0, 31])
def test_a_flipped_bit_is_seen(shm: Path, vector: int, bit: int) -> None:
    memory = opened()
    write(memory, 1, shm)
    content = bytearray(memory.path.read_bytes()) if memory.path else bytearray()
    content[LAYOUT.offset(0, vector) + 4 * 300 + bit // 8] ^= 1 << bit % 8
    assert memory.path
    memory.path.write_bytes(content)
    (copy,) = replica.kept("run", shm)
    assert not copy.verify()


@pytest.mark.parametrize("place", [0, 9, 40, 60, 200])
def test_a_harmed_record_is_no_record(shm: Path, place: int) -> None:
    memory = opened()
    for step in (1, 2):
        write(memory, step, shm)
        memory.swap()
    assert memory.path
    content = bytearray(memory.path.read_bytes())
    content[RECORD + place] ^= 4
    memory.path.write_bytes(content)
    assert [copy.step for copy in replica.kept("run", shm)] == [1]
    memory.path.write_bytes(content[: RECORD // 2])
    assert replica.kept("run", shm) == []
    memory.path.write_bytes(b"")
    assert replica.kept("run", shm) == []


def test_a_record_of_another_version_is_passed_over(
    shm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = opened()
    write(memory, 1, shm)
    memory.swap()
    for other in ({"count": 1 << 40}, {"copies": "two"}, {"colour": 3}, {"cells": 0}):
        with monkeypatch.context() as patch:
            patch.setattr(memory, "layout", SimpleNamespace(**{**vars(LAYOUT), **other}))
            write(memory, 2, shm)
        assert [copy.step for copy in replica.kept("run", shm)] == [1], other
        replica.remove_stale(shm / "elsewhere", None)


def test_it_belongs_to_the_user_alone(shm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = opened()
    assert memory.path
    assert stat.S_IMODE(memory.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(memory.path.parent.stat().st_mode) == 0o700
    memory.remove()
    assert list(shm.iterdir()) == []
    replica.folder().symlink_to(shm)
    with pytest.raises(OSError, match="belongs to somebody else"):
        replica.make_folder()
    replica.folder().unlink()
    replica.folder().mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    (shm / "dist_vgg-12345").mkdir()
    with pytest.raises(OSError, match="belongs to somebody else"):
        replica.make_folder()


def test_what_somebody_else_has_put_there_is_not_read(
    shm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = opened()
    write(memory, 1, shm)
    os.mkfifo(replica.folder() / "run-pipe")  # to open it would wait for ever
    assert [copy.step for copy in replica.kept("run", shm)] == [1]
    replica.remove_stale(shm, memory.path)
    # The folder is somebody else's, however it came to be named like ours.
    theirs = replica.folder()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    theirs.rename(replica.folder())
    assert replica.kept("run", shm) == []
    assert not replica.is_crowded("run", shm)
    replica.make_room("run", shm)
    replica.remove_stale(shm, None)
    assert len(list(replica.folder().iterdir())) == 2


def test_only_what_a_run_itself_has_left_makes_room(
    shm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, copied = shm / "home", shm / "copied"
    for name, folder in (("run", home), ("run-2", home), ("run-3", copied)):
        memory = opened(name)
        write(memory, 1, folder)
    (replica.folder() / "run-4").touch()  # of a start that was killed before its first record
    monkeypatch.setattr(replica, "_in_use", lambda path: "run-2" in path.name)
    free = SimpleNamespace(f_bavail=10, f_frsize=10**6)
    monkeypatch.setattr(os, "statvfs", lambda path: free)
    assert not replica.is_crowded("run", home)
    free.f_bavail = 1
    assert replica.is_crowded("run", home)
    assert not replica.is_crowded("other", home)
    replica.make_room("run", home)
    left = sorted(path.name[:5] for path in replica.folder().iterdir())
    assert left == ["run-2", "run-3"]


def test_memory_whose_name_has_gone_can_be_kept_all_the_same(shm: Path) -> None:
    memory = opened()
    write(memory, 7, shm)
    assert memory.path
    memory.path.unlink()
    memory.keep()
    (copy,) = replica.kept("run", shm)
    assert (copy.step, copy.verify()) == (7, True)


def test_the_folder_may_go_while_a_file_is_made(shm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allocate = os.posix_fallocate

    def slow(handle: int, start: int, length: int) -> None:
        replica.folder().rmdir()  # by another run that ends
        monkeypatch.setattr(os, "posix_fallocate", allocate)

    monkeypatch.setattr(os, "posix_fallocate", slow)
    memory = opened()
    assert memory.path
    assert memory.path.exists()


def test_no_space_is_told_before_anything_is_written(
    shm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int, start: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"No space left on device: .*run-0-"):
        opened()
    assert list(replica.folder().iterdir()) == []


def test_stale_memory_goes_and_wanted_memory_stays(shm: Path) -> None:
    home, other, gone = shm / "home", shm / "other", shm / "gone"
    home.mkdir()
    other.mkdir()
    script = (
        "import sys, pathlib; sys.path[:0] = ['tests/state']; import test_replica as t\n"
        "t.replica.SHM = pathlib.Path(sys.argv[1])\n"
        "t.write(t.opened(sys.argv[2]), 1, pathlib.Path(sys.argv[3]))\n"
    )
    for run, folder in (("mine", home), ("others", other), ("lost", gone), ("old", other)):
        command = [sys.executable, "-c", script, str(shm), run, str(folder)]
        subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    (old,) = replica.folder().glob("old-*")
    hours_ago = time.time() - 2 * replica.STALE
    os.utime(old, (hours_ago, hours_ago))
    # Files without a record: of a start that was killed, and of one that is under way.
    (replica.folder() / "killed-0-1").touch()
    starting = replica.create(replica.folder() / "starting-0-1", LAYOUT, [])
    used = opened("used")  # by a process that lives, though its folder is gone
    write(used, 1, gone)
    replica.remove_stale(home, None)
    left = sorted(path.name.split("-")[0] for path in replica.folder().iterdir())
    assert left == ["others", "starting", "used"]
    os.close(starting)
