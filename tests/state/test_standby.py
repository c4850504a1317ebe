"""Memory that outlives its process: which copy is whole, whose it is, and when it goes."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from replicas import LAYOUT, opened, write

from dist_vgg.state import replica, shm, standby
from dist_vgg.state.record import RECORD


def test_two_steps_are_kept_and_the_newest_comes_first(shm_folder: Path) -> None:
    memory = opened()
    for step in range(5):
        write(memory, step, shm_folder)
        memory.swap()
    copies = standby.kept("run", shm_folder)
    assert [copy.step for copy in copies] == [4, 3]
    assert all(copy.verify() for copy in copies)
    assert copies[0].vectors[1][:512].tolist() == [4.5] * 512
    assert standby.kept("ru", shm_folder) == standby.kept("other", shm_folder) == []


def test_a_copy_that_is_being_written_is_not_whole(shm_folder: Path) -> None:
    memory = opened()
    for step in range(3):
        write(memory, step, shm_folder)
        memory.swap()
    memory.params[5] = 7  # the process dies here
    newest, torn = standby.kept("run", shm_folder)
    assert (newest.step, newest.verify()) == (2, True)
    assert (torn.step, torn.verify()) == (1, False)


@pytest.mark.parametrize("vector", [0, 1])
@pytest.mark.parametrize("bit", [0, 31])
def test_a_flipped_bit_is_seen(shm_folder: Path, vector: int, bit: int) -> None:
    memory = opened()
    write(memory, 1, shm_folder)
    content = bytearray(memory.path.read_bytes()) if memory.path else bytearray()
    content[LAYOUT.offset(0, vector) + 4 * 300 + bit // 8] ^= 1 << bit % 8
    assert memory.path
    memory.path.write_bytes(content)
    (copy,) = standby.kept("run", shm_folder)
    assert not copy.verify()


@pytest.mark.parametrize("place", [0, 9, 40, 60, 200])
def test_a_harmed_record_is_no_record(shm_folder: Path, place: int) -> None:
    memory = opened()
    for step in (1, 2):
        write(memory, step, shm_folder)
        memory.swap()
    assert memory.path
    content = bytearray(memory.path.read_bytes())
    content[RECORD + place] ^= 4
    memory.path.write_bytes(content)
    assert [copy.step for copy in standby.kept("run", shm_folder)] == [1]
    memory.path.write_bytes(content[: RECORD // 2])
    assert standby.kept("run", shm_folder) == []
    memory.path.write_bytes(b"")
    assert standby.kept("run", shm_folder) == []


def test_a_record_of_another_version_is_passed_over(
    shm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = opened()
    write(memory, 1, shm_folder)
    memory.swap()
    for other in ({"count": 1 << 40}, {"copies": "two"}, {"colour": 3}, {"cells": 0}):
        with monkeypatch.context() as patch:
            patch.setattr(memory, "layout", SimpleNamespace(**{**vars(LAYOUT), **other}))
            write(memory, 2, shm_folder)
        assert [copy.step for copy in standby.kept("run", shm_folder)] == [1], other
        standby.remove_stale(shm_folder / "elsewhere", None)


def test_what_somebody_else_has_put_there_is_not_read(
    shm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = opened()
    write(memory, 1, shm_folder)
    os.mkfifo(shm.folder() / "run-pipe")  # to open it would wait for ever
    assert [copy.step for copy in standby.kept("run", shm_folder)] == [1]
    standby.remove_stale(shm_folder, memory.path)
    # The folder is somebody else's, however it came to be named like ours.
    theirs = shm.folder()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    theirs.rename(shm.folder())
    assert standby.kept("run", shm_folder) == []
    assert not standby.is_crowded("run", shm_folder)
    standby.make_room("run", shm_folder)
    standby.remove_stale(shm_folder, None)
    assert len(list(shm.folder().iterdir())) == 2


def test_only_what_a_run_itself_has_left_makes_room(
    shm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, copied = shm_folder / "home", shm_folder / "copied"
    for name, folder in (("run", home), ("run-2", home), ("run-3", copied)):
        memory = opened(name)
        write(memory, 1, folder)
    (shm.folder() / "run-4").touch()  # of a start that was killed before its first record
    monkeypatch.setattr(shm, "is_locked", lambda path: "run-2" in path.name)
    free = SimpleNamespace(f_bavail=10, f_frsize=10**6)
    monkeypatch.setattr(os, "statvfs", lambda path: free)
    assert not standby.is_crowded("run", home)
    free.f_bavail = 1
    assert standby.is_crowded("run", home)
    assert not standby.is_crowded("other", home)
    standby.make_room("run", home)
    left = sorted(path.name[:5] for path in shm.folder().iterdir())
    assert left == ["run-2", "run-3"]


def test_stale_memory_goes_and_wanted_memory_stays(shm_folder: Path) -> None:
    home, other, gone = shm_folder / "home", shm_folder / "other", shm_folder / "gone"
    home.mkdir()
    other.mkdir()
    script = (
        "import sys, pathlib; sys.path[:0] = ['tests']; import replicas as t\n"
        "t.shm.SHM = pathlib.Path(sys.argv[1])\n"
        "t.write(t.opened(sys.argv[2]), 1, pathlib.Path(sys.argv[3]))\n"
    )
    for run, folder in (("mine", home), ("others", other), ("lost", gone), ("old", other)):
        command = [sys.executable, "-c", script, str(shm_folder), run, str(folder)]
        subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    (old,) = shm.folder().glob("old-*")
    hours_ago = time.time() - 2 * standby.STALE
    os.utime(old, (hours_ago, hours_ago))
    # Files without a record: of a start that was killed, and of one that is under way.
    (shm.folder() / "killed-0-1").touch()
    starting = replica.create(shm.folder() / "starting-0-1", LAYOUT, [])
    used = opened("used")  # by a process that lives, though its folder is gone
    write(used, 1, gone)
    standby.remove_stale(home, None)
    left = sorted(path.name.split("-")[0] for path in shm.folder().iterdir())
    assert left == ["others", "starting", "used"]
    os.close(starting)
