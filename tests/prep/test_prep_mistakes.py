"""Mistakes in the options of data_prep are one line, before the work."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from preparing import Run

pytestmark = pytest.mark.usefixtures("quick_disk")


def test_too_large_shards_are_refused_before_the_work(
    run: Run, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_prep.prepare.MAX_BYTES", 40 * 32 * 32)
    options = ("--raw", raw, "--out", tmp_path / "out", "--size", 32)
    status, output, error = run(*options, "--shards", 1)
    assert (status, output) == (2, "")
    assert "--size 32 needs at least --shards 2 for 60 images" in error
    assert run(*options, "--shards", 2)[0] == 0


MISTAKES = {
    "--shard 4": "unknown option --shard; did you mean --shards?",
    "--limits=4": "unknown option --limits; did you mean --limit?",
    "--ovrwrite": "unknown option --ovrwrite; did you mean --overwrite?",
    "--colour": "unknown option --colour; did you mean --channels?",
    "--ranks 4": "unknown option --ranks; did you mean --shards?",
    "extra --shrads 4": "unknown option --shrads; did you mean --shards?",
    "--xyzzy": "unknown option --xyzzy; see",
    "data": "unexpected argument data",
    "--shards": "argument --shards: expected one argument",
    "--shards 0": "argument --shards: must be an integer from 1 up, not 0",
    "--shards -3": "argument --shards: must be an integer from 1 up, not -3",
    "--shards two": "argument --shards: must be an integer from 1 up, not two",
    "--shards 21": "--shards 21 is more than the 20 test images",
    "--shards 61": "--shards 61 is more than the 60 train images",
    "--limit 0": "argument --limit: must be an integer from 1 up, not 0",
    "--limit 7": "--limit 7 leaves some of --shards 8 empty",
    "--size 0": "argument --size: must be a multiple of 32 from 32 to 1024, not 0",
    "--size 50": "argument --size: must be a multiple of 32 from 32 to 1024, not 50",
    "--size 2048": "argument --size: must be a multiple of 32 from 32 to 1024, not 2048",
    "--size 6.4": "argument --size: must be a multiple of 32 from 32 to 1024, not 6.4",
    "--seed -1": "argument --seed: must be an integer from 0 to",
    "--source cifar": "argument --source: invalid choice: 'cifar'",
    "--check x --shards 4": "--check verifies a folder and takes no other option",
    "--check gone": "no data folder gone; make one with",
    "--raw gone": "--raw gone is not a folder",
    "--source digits": "--raw has MNIST's files; leave it out, or leave out --source digits",
    "--out file": "--out file is a file, not a folder",
    "--out file/below": "can't write to --out file/below: Not a directory",
    f"--out {'x' * 300}": "File name too long",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_one_line(
    run: Run, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    before = sorted(tmp_path.iterdir())
    where = () if "--check" in words else ("--raw", raw)
    status, out, error = run(*where, *words.split())
    assert status == 2
    assert not out
    assert error.startswith("data_prep: error: ")
    assert error.count("\n") == 1
    assert MISTAKES[words] in error
    assert sorted(tmp_path.iterdir()) == before


def test_too_little_disk_is_said_before_it_is_taken(
    run: Run, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 80 images of 64x64, and a quarter for what is written of them.
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=80 * 5 * 1024 - 1))
    status, _, error = run("--raw", raw, "--out", tmp_path / "out")
    assert status == 2
    assert "80 images of 64x64 need 1 MiB of disk while they are prepared, and" in error
    assert not (tmp_path / "out").exists()
