"""A file is either whole or not there."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from dist_vgg import files
from dist_vgg.errors import UserError


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
    class Interrupted(io.FileIO):
        def write(self, data: object) -> int:
            raise KeyboardInterrupt

    class Sink(files._Sink, Interrupted):
        pass

    monkeypatch.setattr(files, "_Sink", Sink)
    with pytest.raises(KeyboardInterrupt), files.whole_hdf5(tmp_path / "a.h5", "a test") as file:
        file["x"] = np.arange(5)
    assert not list(tmp_path.iterdir())


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


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from dist_vgg import files
from dist_vgg.errors import UserError

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
    lambda: hdf5(99_000, chunks=(1000,), fletcher32=True),
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
        cwd=Path(__file__).parents[1],
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
