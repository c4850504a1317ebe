"""Images beyond their share of memory are read from the shards: the same bits, and verified."""

import shutil
import time
from pathlib import Path

import launcher
import pytest
from launcher import field, here, train
from training import EPOCHS, SMALL, outcome, wait_for_step

from dist_vgg.data.dataset import check_set, load_shard, open_set
from dist_vgg.data.shards import shard_path

LITTLE = ("--image-memory", 1e-9)
SAID = "reading images from the shards as they are needed"


@pytest.mark.parametrize("ranks", [1, 3])
def test_same_bits_as_from_memory(
    ranks: int, small: tuple[object, ...], data: Path, reference: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    options = ("--data", data, "--out", folder, *small, *EPOCHS, *LITTLE)
    status, output, errors = train(ranks, *options)
    assert status == 0, errors
    assert SAID in output
    assert outcome(folder) == outcome(reference)
    status, output, errors = here("dist_vgg.replay", folder, "--step", 2)
    assert (status, "the same bits" in output) == (0, True), errors


def test_a_limit_counts_the_same_images(data: Path, tmp_path: Path) -> None:
    options = ("--data", data, *SMALL, "--epochs", 1, "--limit", 11)
    found = [
        train(1, *options, "--out", tmp_path / name, *more)[1]
        for name, more in (("kept", ()), ("read", LITTLE))
    ]
    assert field(found[0], "parameters") == field(found[1], "parameters")


def test_a_shard_that_is_damaged_while_training_is_named(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    options = ("--data", folder, "--out", tmp_path / "run", *SMALL, "--epochs", 2000, *LITTLE)
    process = launcher.start(2, "-m", "dist_vgg.train", *options)
    wait_for_step(tmp_path / "run", 2)
    path = shard_path(folder, "train", 5, 8)
    with path.open("r+b") as file:
        size = path.stat().st_size
        file.write(b"\0" * size)
    started = time.monotonic()
    status, _, errors = launcher.finish(process)
    assert status not in (0, None)
    assert f"can't read {path} any more" in errors
    assert "Traceback" not in errors
    assert time.monotonic() - started < 30


def test_a_set_larger_than_memory_is_checked(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = list(check_set(data))
    monkeypatch.setattr("dist_vgg.data.dataset.physical_memory", lambda: 10)
    assert list(check_set(data)) == before
    info = open_set(data)
    assert load_shard(data, "train", 0, info, on_demand=True).on_demand
