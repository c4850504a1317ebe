"""Files of this user alone."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dist_vgg.base import cache

DATA = b"a line\nand bytes\x00\xff"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "file"
    cache.make_private(path.parent)
    cache.write_private(path, DATA)
    return path


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
def test_what_was_written_is_read_whatever_the_umask(path: Path) -> None:
    assert cache.read_private(path) == DATA
    assert [path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777] == [0o600, 0o700]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("what", ["changed", "cut", "empty", "longer", "another's name", "missing"])
def test_no_byte_of_a_damaged_file_is_read(path: Path, what: str) -> None:
    written = path.read_bytes()
    damaged = {
        "changed": written[:-1] + b"\xfe",
        "cut": written[:-1],
        "empty": b"",
        "longer": written + b"\0",
    }
    if what in damaged:
        path.write_bytes(damaged[what])
    else:
        path = path.rename(path.with_name("other"))
        if what == "missing":
            path.unlink()
    assert cache.read_private(path) is None


@pytest.mark.parametrize("what", ["others may write", "a link", "a pipe", "a folder"])
def test_a_file_that_may_be_anothers_is_not_read(path: Path, what: str) -> None:
    if what == "others may write":
        path.chmod(0o620)
    elif what == "a link":
        path.symlink_to(path.rename(path.with_name("other")))
    else:
        path.unlink()
        os.mkfifo(path) if what == "a pipe" else path.mkdir()
    assert cache.read_private(path) is None


def test_another_users_files_and_folders_are_not_used(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    assert cache.read_private(path) is None
    with pytest.raises(PermissionError, match="others may write to it"):
        cache.make_private(path.parent)


def test_a_folder_to_which_others_may_write_is_not_used(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o770)
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    for folder in (shared, link):
        with pytest.raises(PermissionError, match="others may write to it"):
            cache.make_private(folder)


def test_folders_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIST_VGG_CACHE", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", "/t")
    mine = f"dist_vgg-code-{os.geteuid()}"
    last = [Path("/t") / mine, Path("/dev/shm") / mine]
    assert cache.private_folders("code") == [tmp_path / "code", *last]
    monkeypatch.setattr(cache, "cache_folder", lambda: None)
    assert cache.private_folders("code") == last


HOLD = """
import sys
from pathlib import Path
from dist_vgg.base.cache import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read(1)
"""


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as first:
        assert first.stdout and first.stdout.readline() == b"held\n"
        with subprocess.Popen(command, **pipes) as second:
            assert second.stdout and second.stdin
            os.set_blocking(second.stdout.fileno(), False)
            with pytest.raises(subprocess.TimeoutExpired):
                second.wait(1)
            assert not second.stdout.read()
            first.kill()
            os.set_blocking(second.stdout.fileno(), True)
            assert second.stdout.readline() == b"held\n"
            second.stdin.write(b"x")
