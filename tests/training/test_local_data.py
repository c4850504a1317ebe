"""Each host may have only the shards that its ranks host; two folders stand for two disks."""

import shutil
import sys
from pathlib import Path

import launcher
import pytest
from training import EPOCHS, SMALL, outcome


@pytest.fixture
def disks(data: Path, tmp_path: Path) -> list[Path]:
    """Two folders: the training shards of rank 0 of two ranks, and those of rank 1."""
    disks = [tmp_path / "disk0", tmp_path / "disk1"]
    paths = sorted(data.glob("train-*"))
    half = -(-len(paths) // 2)
    for disk, part in zip(disks, (paths[:half], paths[half:]), strict=True):
        disk.mkdir()
        for path in part:
            shutil.copy(path, disk)
    return disks


def train(disks: list[Path], out: Path) -> tuple[int, str, str]:
    words = ("-m", "dist_vgg.train", "--out", out, *SMALL, *EPOCHS, "--data")
    return launcher.run(-1, *words, disks[0], ":", "-n", 1, sys.executable, *words, disks[1])


def test_its_own_shards_are_all_that_a_rank_needs(
    disks: list[Path], reference: Path, tmp_path: Path
) -> None:
    status, _, errors = train(disks, tmp_path / "run")
    assert status == 0, errors
    assert outcome(tmp_path / "run") == outcome(reference)


def test_a_shard_that_a_rank_lacks_is_named(disks: list[Path], tmp_path: Path) -> None:
    lacking = sorted(disks[1].iterdir())[-1]
    lacking.unlink()
    status, _, errors = train(disks, tmp_path / "run")
    assert status == 2
    assert f"shard {lacking} is missing; prepare " in launcher.one_line(errors)
    assert not (tmp_path / "run").exists()
