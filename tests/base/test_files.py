"""A file is either whole or not there."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dist_vgg.base import files
from dist_vgg.base.errors import UserError

ROOT = Path(__file__).parents[2]


def test_written_beside_appears_only_when_all_went_well(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with files.written_beside(path) as beside:
        beside.write_text("new")
        assert not path.exists()
        assert beside.parent == tmp_path  # a rename is only atomic within one file system
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_whatever_goes_wrong_the_old_file_stays(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(error), files.written_beside(path) as beside:
        beside.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_content_is_on_the_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    seen: list[tuple[str, bool]] = []

    def watched(it: Path) -> None:
        seen.append((it.name, path.exists()))

    monkeypatch.setattr(files, "fsync", watched)
    with files.written_beside(path) as beside:
        beside.write_text("x")
    assert seen == [(beside.name, False), (tmp_path.name, True)]


def test_whole_hdf5(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with files.whole_hdf5(path, "a test") as file:
        file["x"] = np.arange(5)
    with h5py.File(path) as file:
        assert file["x"][...].tolist() == [0, 1, 2, 3, 4]
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupt_while_hdf5_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Sink(files._Sink):
        def write(self, data: Any) -> int:
            # What the handler raises here would be lost in HDF5, and the data with it.
            signal.raise_signal(signal.SIGINT)
            return super().write(data)

    monkeypatch.setattr(files, "_Sink", Sink)
    with pytest.raises(KeyboardInterrupt), files.whole_hdf5(tmp_path / "a.h5", "a test") as file:
        file["x"] = np.arange(5)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("quick_disk")
def test_an_interrupt_while_hdf5_reads(tmp_path: Path) -> None:
    path, found = make(tmp_path / "a.h5"), []
    with pytest.raises(KeyboardInterrupt), files.open_hdf5(path) as file:
        signal.raise_signal(signal.SIGINT)
        found = file["x"][...].tolist()
    assert found == list(range(100))


def test_signals_are_held_back_for_their_own_handlers() -> None:
    came: list[str] = []
    usual = {number: signal.getsignal(number) for number in files.STOPS}
    try:
        signal.signal(signal.SIGTERM, lambda number, frame: came.append("term"))
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        with files.undisturbed():
            with files.undisturbed():
                signal.raise_signal(signal.SIGTERM)
                signal.raise_signal(signal.SIGUSR1)
            came.append("inner")
        came.append("outer")
        assert came == ["inner", "term", "outer"]
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_hdf5_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), files.whole_hdf5(tmp_path / "a.h5", "a test") as file:
        file["x"] = np.arange(5)
        raise error
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "a"
    with pytest.raises(UserError, match=f"can't write a shard to {path}.h5: No such file"):  # noqa: SIM117
        with files.whole_hdf5(path.with_suffix(".h5"), "a shard"):
            pass
    with pytest.raises(UserError, match=f"can't write {path}: No such file or directory"):
        files.write_text(path, "x")


def test_a_path_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Not a directory"):
        files.write_text(tmp_path / "file" / "a", "x")


def test_an_hdf5_file_begins_with_the_digest_of_what_follows(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with files.whole_hdf5(path, "a test") as file:
        file["x"] = np.arange(5)
    block, content = path.read_bytes()[:512], path.read_bytes()[512:]
    digest = hashlib.sha256(content).hexdigest()
    assert block == f"dist_vgg 2 sha256 {digest}\n".encode().ljust(512, b"\0")
    assert content.startswith(b"\x89HDF")


def make(path: Path, size: int = 100) -> Path:
    with files.whole_hdf5(path, "a test") as file:
        file["x"] = np.arange(size)
    return path


@pytest.mark.usefixtures("quick_disk")
def test_nothing_is_parsed_before_every_bit_is_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / "a.h5")
    with files.open_hdf5(path) as file:
        assert file["x"][...].tolist() == list(range(100))
    assert files.is_whole(path)
    monkeypatch.setattr(h5py, "File", None)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    places = [*range(90), *rng.integers(90, len(whole), 300)]
    for place, bit in zip(places, rng.integers(0, 8, len(places)), strict=True):
        data = bytearray(whole)
        data[place] ^= 1 << bit
        path.write_bytes(data)
        with pytest.raises(files.NotWhole), files.open_hdf5(path):
            pass
        assert not files.is_whole(path)
    for other in (b"", whole[:100], whole[:512], whole[:-1], whole + b"\0", whole[512:]):
        path.write_bytes(other)
        with pytest.raises(files.NotWhole), files.open_hdf5(path):
            pass


@pytest.mark.usefixtures("quick_disk")
def test_what_was_verified_is_what_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Between the two, another file may have taken the name.
    path, other = make(tmp_path / "a.h5"), make(tmp_path / "b.h5", 7)
    plain = h5py.File

    def late(*args: Any, **options: Any) -> h5py.File:
        other.replace(path)
        return plain(*args, **options)

    monkeypatch.setattr(h5py, "File", late)
    with files.open_hdf5(path) as file:
        assert len(file["x"]) == 100


def test_files_that_are_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["x"] = 1
    other = "it is not of schema 2, or not of ours"
    with pytest.raises(files.NotWhole, match=other), files.open_hdf5(path):
        pass
    path.write_bytes(b"dist_vgg 3 sha256 ".ljust(2000, b"x"))
    with pytest.raises(files.NotWhole, match=other), files.open_hdf5(path):
        pass
    path.write_text("text")
    with pytest.raises(files.NotWhole, match="dist_vgg did not write it"), files.open_hdf5(path):
        pass
    with pytest.raises(FileNotFoundError), files.open_hdf5(tmp_path / "gone"):
        pass
    os.mkfifo(tmp_path / "pipe")
    for endless in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        assert not files.is_whole(endless)
        with pytest.raises(files.NotWhole, match="it is no file"), files.open_hdf5(endless):
            pass


def test_a_large_file_is_hashed_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(50_000_000)
    files.seal(path)
    tracemalloc.start()
    assert files.is_whole(path)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_a_folder_is_one_process_s_until_it_ends(tmp_path: Path) -> None:
    code = "import sys, time; from pathlib import Path; from dist_vgg.base.files import lock; "
    code += "print(lock(Path(sys.argv[1])), lock(Path(sys.argv[1])), flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as other:
        assert other.stdout
        assert other.stdout.readline() == "True True\n"
        assert not files.lock(tmp_path)
        other.kill()
    assert files.lock(tmp_path)
    os.close(files._locked.pop(tmp_path.resolve()))


def test_content_that_is_not_what_was_meant_takes_no_place(tmp_path: Path) -> None:
    def check(file: h5py.File) -> None:
        raise KeyError(int(file["x"][7]))

    with pytest.raises(KeyError, match="7"), files.whole_hdf5(tmp_path / "a", "a", check) as file:
        file["x"] = np.arange(100)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_read_back_as_written_takes_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / "a.h5")
    before = path.read_bytes()

    def failing_disk(it: Path) -> None:
        data = bytearray(it.read_bytes())
        data[-3] ^= 1
        it.write_bytes(data)

    monkeypatch.setattr(files, "fsync", failing_disk)
    with pytest.raises(UserError, match=f"a test for {path} does not read back as it was written"):
        make(path, 50)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from dist_vgg.base import files
from dist_vgg.base.errors import UserError

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
folder = Path(sys.argv[1])

def hdf5(size, **options):
    with files.whole_hdf5(folder / "a.h5", "a shard") as file:
        file.create_dataset("x", data=np.arange(size, dtype="u1"), **options)

for write in (
    lambda: files.write_text(folder / "text", "x" * 200_000),
    lambda: hdf5(200_000),
    lambda: hdf5(99_900),
    lambda: hdf5(200_000, chunks=(1000,)),
    lambda: hdf5(99_000, chunks=(1000,), compression="gzip", compression_opts=0),
):
    try:
        write()
        print("no error")
    except UserError as error:
        print(error)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on file sizes")
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    # A limit on the size of files fails writes like a full disk, in the middle. HDF5 by itself
    # dies of a segmentation fault where chunks are left to write.
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 5, done.stdout
    for line in lines:
        assert line.startswith("can't write ")
        assert os.strerror(errno.EFBIG) in line
        assert "free space or choose another folder" in line
    assert not list(tmp_path.iterdir())
