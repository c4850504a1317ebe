"""What can't go on ends on all ranks, in words that name the place."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import h5py
import launcher
import pytest
from launcher import one_line, train
from preparing import save_one_shard
from training import EPOCHS, INSIDE, SMALL, outcome, refused

from dist_vgg.runs.log import read_metrics


def test_exception_on_one_rank_ends_the_job_with_its_name(data: Path, tmp_path: Path) -> None:
    options = ("--data", data, "--out", tmp_path / "run", *SMALL, *EPOCHS)
    status, _, errors = launcher.run(3, INSIDE / "failing_train.py", *options)
    assert status != 0
    assert "rank 1 on " in errors
    assert "ZeroDivisionError: made to fail" in errors


def test_nan_names_step_layer_and_rank(data: Path, tmp_path: Path) -> None:
    options = ("--data", data, "--out", tmp_path / "run", *SMALL, *EPOCHS)
    status, _, errors = train(3, *options, "--lr", 1e30, "--clip", 0, "--warmup", 0)
    assert status == 70
    line = one_line(errors)
    assert "step 2" in line
    assert "the output of layer conv1_" in line
    assert "on rank 0" in line


@pytest.mark.parametrize("ranks", [1, 3])
def test_what_explodes_has_diverged(ranks: int, data: Path, tmp_path: Path) -> None:
    """It had ended with a loss of 2e32 and status 0, since no number was Inf."""
    options = ("--data", data, "--out", tmp_path / "run", *SMALL, *EPOCHS)
    status, output, errors = train(ranks, *options, "--lr", 100, "--warmup", 0)
    assert status == 70, output
    assert "training has diverged: the loss is " in one_line(errors)
    assert not (tmp_path / "run" / "weights.h5").exists()


def test_nan_of_one_rank_names_that_rank(data: Path, tmp_path: Path) -> None:
    options = ("--data", data, "--out", tmp_path / "run", *SMALL, *EPOCHS)
    status, _, errors = launcher.run(3, INSIDE / "poisoned_train.py", *options)
    assert status == 70
    assert "step 1: NaN or Inf first seen in the output of layer conv1_1 on rank 2" in errors


def test_debug_names_the_layer_of_a_nan(data: Path, tmp_path: Path) -> None:
    options = ("--data", data, "--out", tmp_path / "run", *SMALL, *EPOCHS)
    status, _, errors = train(1, "--debug", *options, "--lr", 1e30, "--clip", 0, "--warmup", 0)
    assert status == 70
    assert "in the output of layer conv1_" in one_line(errors)


def test_pdb_stops_at_the_failing_line(data: Path, tmp_path: Path) -> None:
    options = ("--debug", "--pdb", "--data", data, "--out", tmp_path / "run", *SMALL, *EPOCHS)
    done = subprocess.run(
        launcher.command(1, INSIDE / "failing_train.py", *options),
        input="p 6 * 7\nq\n",
        text=True,
        capture_output=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(launcher.ROOT)},
    )
    assert "ZeroDivisionError: made to fail" in done.stdout
    assert "(Pdb) 42" in done.stdout


def test_bad_starts_are_one_line(data: Path, tmp_path: Path, reference: Path) -> None:
    nowhere = tmp_path / "nowhere"
    toml = tmp_path / "recipe.toml"
    toml.write_text("epohcs = 3\n")
    one_shard = save_one_shard(tmp_path / "one")
    cases: list[tuple[tuple[Any, ...], str]] = [
        (("--data", one_shard), "2 ranks for 1 shard"),
        (("--data", nowhere), f"no data folder {nowhere}; make one with: python -m data_prep"),
        (("--data", tmp_path), f"no shards in {tmp_path}; make them with: python -m data_prep"),
        (("--epohcs", 3), "unknown option --epohcs; did you mean --epochs?"),
        (("--lr", -1), "--lr -1.0 is out of range: it must be at least 0"),
        (("--config", toml), "unknown option epohcs; did you mean epochs?"),
        (("--data", data, "--out", reference), f"{reference} holds a run already"),
        (("--resume", "--out", nowhere), f"nothing to resume in {nowhere}"),
        (("--resume", "--out", reference, "--width", 0.5), "--width 0.5 contradicts"),
        (("--resume", "--out", reference, "--epochs", 9), "cosine spreads its rates over"),
        (("--debug", "--data", data), "--debug is one process"),
        (("--data", data, "--out", toml / "run"), "can't make the run's folder"),
    ]
    refused(2, "dist_vgg.train", cases)
    refused(1, "dist_vgg.train", [(("--pdb", "--data", data), "--pdb goes with --debug")])
    assert not nowhere.exists()


def test_harmed_shard_is_named(data: Path, tmp_path: Path) -> None:
    copies = [shutil.copytree(data, tmp_path / name) for name in ("missing", "short", "flipped")]
    harmed = {copy: copy / "train-00006-of-00008.h5" for copy in copies}
    missing, short, flipped = harmed.values()
    missing.unlink()
    short.write_bytes(short.read_bytes()[:3000])
    with h5py.File(flipped) as file:
        place = file["pixels"].id.get_chunk_info(0).byte_offset
    content = bytearray(flipped.read_bytes())
    content[place + 100] ^= 1
    flipped.write_bytes(content)
    out = tmp_path / "run"
    refused(
        3,
        "dist_vgg.train",
        [(("--data", copy, "--out", out, *SMALL), str(path)) for copy, path in harmed.items()],
    )
    assert not out.exists()


@pytest.mark.parametrize("ranks", [1, 3])
def test_full_disk_is_one_line_at_the_end(ranks: int, data: Path, tmp_path: Path) -> None:
    options = ("--data", data, "--out", tmp_path / "run", *SMALL, *EPOCHS, "--route", "flat")
    status, output, errors = launcher.run(ranks, INSIDE / "small_files_train.py", *options)
    assert status == 2, errors
    assert "standby none: can't use /dev/shm/" in output
    assert output.count("warning: can't write a checkpoint to") == 1
    assert "training goes on" in output
    assert "can't write a checkpoint to" in one_line(errors)
    assert len(read_metrics(tmp_path / "run", "step")) == 6
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


def test_little_shared_memory(data: Path, tmp_path: Path, reference: Path) -> None:
    (shm := tmp_path / "shm").mkdir()
    run = (shm, "--data", data, "--out", tmp_path / "run", *SMALL, *EPOCHS)
    status, _, errors = launcher.run(2, INSIDE / "little_memory_train.py", *run, "--route", "node")
    assert status == 2, errors
    assert "--route node needs" in one_line(errors)
    assert not (tmp_path / "run").exists()
    status, output, errors = launcher.run(3, INSIDE / "little_memory_train.py", *run)
    assert status == 0, errors
    assert "route flat" in output
    assert "standby none: " in output
    assert outcome(tmp_path / "run") == outcome(reference)
    assert not list(shm.iterdir())
