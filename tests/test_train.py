"""Training: the same bits however many ranks, whichever route, stopped or not."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import launcher
import pytest
from launcher import field, one_line, train
from lies import say

from dist_vgg import replica, stall
from dist_vgg.checkpoint import load_newest, load_weights, save_checkpoint
from dist_vgg.runlog import SPANS, read_metrics

SMALL = ("--width", 0.02, "--micro-batch", 3, "--warmup", 2, "--progress", "none")
EPOCHS = ("--epochs", 2)
STALL = 2  # seconds; a busy machine takes one between two signs of progress
SHM = Path("/dev/shm")
INSIDE = launcher.ROOT / "tests" / "inside_ranks"


def outcome(folder: Path) -> list[tuple[Any, ...]]:
    """All of a run that must not depend on how it was run."""
    names = ("step", "epoch", "loss", "accuracy", "lr", "gradient_norm")
    steps = [tuple(r[name] for name in names) for r in read_metrics(folder, "step")]
    epochs = [(r["loss"], r["accuracy"], r["sha256"]) for r in read_metrics(folder, "epoch")]
    return [*steps, *epochs, (load_weights(folder).sha256,)]


def struck(ranks: int, fault: str, *options: object) -> tuple[int, str, str]:
    """Train with one fault, see struck_train.py: status, output and errors."""
    return launcher.run(ranks, INSIDE / "struck_train.py", fault, *options)


@pytest.fixture(scope="module")
def reference(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process that nothing happened to."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    status, output, errors = train(1, "--data", data, "--out", folder, *SMALL, *EPOCHS)
    assert status == 0, errors
    assert field(output, "parameters") == load_weights(folder).sha256
    return folder


@pytest.mark.parametrize(
    ("ranks", "route"),
    [(-1, "flat"), (2, "flat"), (2, "node"), (3, "flat"), (3, "node"), (4, "auto"), (8, "flat"),
     (8, "node")],
)  # fmt: skip
def test_same_bits_at_any_ranks_and_route(
    ranks: int, route: str, data: Path, reference: Path, tmp_path: Path
) -> None:
    options = ("--data", data, "--out", tmp_path / "run", "--route", route)
    status, output, errors = train(ranks, *options, *SMALL, *EPOCHS)
    assert status == 0, errors
    assert outcome(tmp_path / "run") == outcome(reference)
    shown = {"auto": "node"}.get(route, route)
    assert f"route {shown}" in output


@pytest.mark.parametrize(
    "recipe",
    [
        # Wide enough for several buckets, and for several slices to update in each.
        ("--optimizer", "adam", "--lr", 1e-3, "--clip", 0.5, "--schedule", "step", "--width", 0.15),
        ("--optimizer", "adagrad", "--dropout", 0, "--schedule", "constant", "--seed", 7),
        ("--nesterov", "--limit", 11, "--lr-batch", 48, "--weight-decay", 0.01, "--clip", 0.1),
    ],
    ids=["adam", "adagrad", "nesterov"],
)
def test_same_bits_with_other_recipes(recipe: tuple[Any, ...], data: Path, tmp_path: Path) -> None:
    for ranks in (1, 5):
        options = ("--data", data, "--out", tmp_path / str(ranks), "--epochs", 1)
        status, _, errors = train(ranks, *options, *SMALL, *recipe)
        assert status == 0, errors
    assert outcome(tmp_path / "1") == outcome(tmp_path / "5")


def test_it_learns(data: Path, tmp_path: Path) -> None:
    options = ("--width", 0.1, "--micro-batch", 2, "--epochs", 20, "--optimizer", "adam")
    status, _, errors = train(
        2, "--data", data, "--out", tmp_path / "run", "--lr", 1e-3, "--progress", "none", *options
    )
    assert status == 0, errors
    epochs = read_metrics(tmp_path / "run", "epoch")
    assert epochs[0]["accuracy"] < 0.5
    assert epochs[-1]["accuracy"] > 0.8


@pytest.mark.parametrize(("ranks", "later"), [(3, 8), (1, 2)])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_stopped_and_resumed_is_never_stopped(
    ranks: int, later: int, number: signal.Signals, data: Path, tmp_path: Path, reference: Path
) -> None:
    folder = tmp_path / "run"
    # Slow steps, so that the signal comes in the middle of the run.
    process = launcher.start(
        ranks, INSIDE / "slow_train.py", "--data", data, "--out", folder, *SMALL, *EPOCHS
    )
    wait_for_step(folder, 2)
    process.send_signal(number)
    status, output, errors = launcher.finish(process)
    assert status != 0
    assert f"stopped by {number.name} after step" in output, output + errors
    assert f"--resume --out {folder}" in output
    assert "Traceback" not in errors
    done = len(read_metrics(folder, "step"))
    assert 2 <= done < len(read_metrics(reference, "step"))
    status, output, errors = train(later, "--resume", "--out", folder)
    assert status == 0, errors
    assert f"resumed at step {done}" in output
    assert outcome(folder) == outcome(reference)


@pytest.mark.parametrize("moment", ["agree", "share"])
def test_signal_to_one_rank_stops_all_at_the_same_step(
    moment: str, data: Path, tmp_path: Path
) -> None:
    options = ("--data", data, "--out", tmp_path / "run", *SMALL, *EPOCHS)
    status, output, errors = launcher.run(3, INSIDE / "signalled_train.py", moment, *options)
    assert status == 128 + signal.SIGUSR1, errors
    assert "stopped by SIGUSR1 after step 3 of 6" in output


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("moment", ["mpi", "shards", "memory"])
def test_a_signal_at_the_start_is_not_lost(
    ranks: int, moment: str, data: Path, tmp_path: Path, reference: Path
) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, *EPOCHS)
    status, output, errors = launcher.run(ranks, INSIDE / "early_train.py", moment, *run)
    assert status == 128 + signal.SIGUSR1, errors
    assert output.count("SIGUSR1: saving after this step, then stopping") == 1
    assert "stopped by SIGUSR1 after step 1 of 6, saved" in output
    status, _, errors = train(2, "--resume", "--out", folder)
    assert status == 0, errors
    assert outcome(folder) == outcome(reference)


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_batch_system_that_tells_everybody_is_heard_once(
    ranks: int, data: Path, tmp_path: Path, reference: Path
) -> None:
    folder = tmp_path / "run"
    process = launcher.start(
        ranks, INSIDE / "slow_train.py", "--data", data, "--out", folder, *SMALL, *EPOCHS
    )
    wait_for_step(folder, 2)
    pids = [int(path.name) for path in (folder / "pids").iterdir()]
    # Slurm's, its launcher's, and then the supervisor's
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1):
        for pid in pids:
            os.kill(pid, number)
        time.sleep(0.03)  # less than a step, but two at once would be one
    status, output, errors = launcher.finish(process)
    assert status == 128 + signal.SIGTERM, errors
    assert "stopped by SIGTERM after step" in output
    done = len(read_metrics(folder, "step"))
    assert (folder / "checkpoints" / f"step-{done:08d}.h5").exists()
    assert train(2, "--resume", "--out", folder)[0] == 0
    assert outcome(folder) == outcome(reference)


@pytest.mark.parametrize("ranks", [1, 3])
def test_ctrl_c_twice_leaves_nothing(ranks: int, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, "--epochs", 99)
    before = set(SHM.rglob("*"))
    process = launcher.start(ranks, INSIDE / "slow_train.py", *run)
    wait_for_step(folder, 2)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    time.sleep(0.05)  # less than a step
    os.killpg(process.pid, signal.SIGINT)
    status, _, _ = launcher.finish(process, timeout=20)
    assert status != 0
    left = [path for path in set(SHM.rglob("*")) - before if path != replica.folder()]
    assert not left
    assert not [path for path in folder.rglob("*") if path.name.endswith(".partial")]


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_terminal_that_goes_away_is_a_signal_to_save(
    ranks: int, data: Path, tmp_path: Path, reference: Path
) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, *EPOCHS, "--progress", "live")
    process = launcher.start(ranks, INSIDE / "slow_train.py", *run)
    wait_for_step(folder, 2)
    assert process.stdout
    process.stdout.close()
    for path in (folder / "pids").iterdir():
        os.kill(int(path.name), signal.SIGHUP)
    assert process.wait(timeout=20) == 128 + signal.SIGHUP
    done = len(read_metrics(folder, "step"))
    assert (folder / "checkpoints" / f"step-{done:08d}.h5").exists()
    assert train(3, "--resume", "--out", folder)[0] == 0
    assert outcome(folder) == outcome(reference)


def test_killed_rank_ends_the_job_and_resume_works(
    data: Path, tmp_path: Path, reference: Path
) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, "--checkpoint-every", 1, *SMALL, *EPOCHS)
    process = launcher.start(3, INSIDE / "slow_train.py", *run)
    wait_for_step(folder, 3)
    pids = [int(p.name) for p in (folder / "pids").iterdir()]
    os.kill(pids[1], signal.SIGKILL)
    status, _, _ = launcher.finish(process, timeout=30)
    assert status != 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    status, _, errors = train(4, "--resume", "--out", folder)
    assert status == 0, errors
    assert outcome(folder) == outcome(reference)


# What strikes, and when; after it the first start goes on by itself. Steps count from 0.
@pytest.mark.parametrize(
    ("ranks", "later", "options", "fault", "resumed"),
    [
        (3, 8, (), "1 4 forward kill", "step 4 of 6"),
        (3, 2, ("--route", "flat"), "2 4 reduce kill", "step 4 of 6"),
        (8, 7, (), "7 4 update kill", "step 4 of 6"),
        (2, 1, (), "0 0 share kill", "step 0 of 6"),
        (1, 3, (), "0 4 share kill", "step 4 of 6"),
        # It is noticed in the update, which has begun to go over the step before.
        (3, 3, (), "1 4 reduce flip parameters", "step 3 of 6"),
        (2, 2, (), "1 4 reduce flip momentum", "step 3 of 6"),
        (3, 3, ("--route", "flat"), "2 4 update flip parameters", "step 3 of 6"),
        (3, 3, (), "2 4 update flip momentum", "step 3 of 6"),
        (3, 3, (), "0 4 update flip gradient", "step 4 of 6"),
    ],
)
def test_struck_and_resumed_is_never_struck(
    ranks: int,
    later: int,
    options: tuple[Any, ...],
    fault: str,
    resumed: str,
    data: Path,
    tmp_path: Path,
    reference: Path,
) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, *EPOCHS, *options)
    before = set(SHM.glob("*"))
    status, output, errors = struck(ranks, fault, *run)
    if "flip" in fault:
        assert status == 72, output + errors
        rank, step, _, _, vector = fault.split()
        name = vector.replace("gradient", "summed gradient")
        line = one_line(errors)
        assert f"step {int(step) + 1}: the {name} on rank {rank} on " in line
        assert "in bucket 0" in line
    else:
        assert status != 0
        assert "Traceback" not in errors
    assert not [path for path in set(SHM.glob("*")) - before if path != replica.folder()]
    status, output, errors = train(later, "--resume", "--out", folder)
    assert status == 0, errors
    assert f"resumed at {resumed}" in output
    assert ("from memory" in output) == ("step 3" not in resumed), output
    assert outcome(folder) == outcome(reference)
    assert not memory_of(folder)


def test_a_run_that_is_only_in_memory_is_not_written_over(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, "--epochs", 1)
    assert struck(2, "1 2 forward kill", *run)[0] != 0
    assert not list((folder / "checkpoints").iterdir())
    status, _, errors = train(2, *run)
    assert status == 2
    assert f"{folder} holds a run already; go on with --resume" in one_line(errors)
    status, output, errors = train(1, "--resume", "--out", folder)
    assert status == 0, errors
    assert "resumed at step 2 of 3, epoch 1, from memory" in output


@pytest.mark.parametrize(
    ("ranks", "options", "fault", "named", "resumed"),
    [
        # After what is saved has been checked, and before it is on the disk.
        (3, (), "1 3 gather flip parameters", "parameters", "step 2 of 6, epoch 1, from memory"),
        (3, ("--route", "flat"), "2 3 gather flip momentum", "momentum", "step 2 of 6"),
        (1, (), "0 3 gather flip parameters", "parameters", "step 2 of 6"),
        (2, (), "0 6 weights flip parameters", "parameters", "step 6 of 6"),
    ],
)
def test_nothing_flipped_is_saved(
    ranks: int,
    options: tuple[Any, ...],
    fault: str,
    named: str,
    resumed: str,
    data: Path,
    tmp_path: Path,
    reference: Path,
) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, *EPOCHS, *options)
    status, _, errors = struck(ranks, fault, *run)
    assert status == 72, errors
    assert f"the {named} on rank 0 on " in one_line(errors)
    assert not (folder / "weights.h5").exists()
    left = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert left == ([] if "3 gather" in fault else ["step-00000003.h5", "step-00000006.h5"])
    status, output, errors = train(2, "--resume", "--out", folder)
    assert status == 0, errors
    assert f"resumed at {resumed}" in output
    assert outcome(folder) == outcome(reference)


@pytest.mark.parametrize("victim", [0, 2])
def test_a_replica_that_differs_is_named(
    victim: int, data: Path, tmp_path: Path, reference: Path
) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, *EPOCHS, "--route", "flat")
    status, _, errors = struck(3, f"{victim} 3 digest flip parameters", *run)
    assert status == 72, errors
    assert f"step 3: the parameters on rank {victim} on " in one_line(errors)
    assert "in bucket 0" in errors
    status, _, errors = train(2, "--resume", "--out", folder)
    assert status == 0, errors
    assert outcome(folder) == outcome(reference)


@pytest.mark.parametrize("vector", ["parameters", "momentum"])
@pytest.mark.parametrize(("ranks", "route"), [(1, "auto"), (2, "node"), (3, "flat")])
def test_what_flips_before_the_first_step_is_noticed(
    vector: str, ranks: int, route: str, data: Path, tmp_path: Path, reference: Path
) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, *EPOCHS)
    assert struck(2, "1 4 forward kill", *run)[0] != 0
    again = ("--resume", "--out", folder, "--route", route)
    status, _, errors = struck(ranks, f"0 0 resume flip {vector}", *again)
    assert status == 72, errors
    assert f"the {vector} on rank 0 on " in one_line(errors)
    assert "before the first step" in errors
    status, output, errors = train(2, "--resume", "--out", folder)
    assert status == 0, errors
    assert "resumed at step 4 of 6, epoch 2, from memory" in output
    assert outcome(folder) == outcome(reference)


@pytest.mark.parametrize("what", ["pixels", "labels", "ids"])
@pytest.mark.parametrize("ranks", [1, 3])
def test_a_sample_that_flips_in_memory_is_noticed(
    what: str, ranks: int, data: Path, tmp_path: Path, reference: Path
) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, *EPOCHS)
    # In the last step of an epoch: its images have been read, and all are read again in the next.
    status, _, errors = struck(ranks, f"{ranks - 1} 2 step flip {what}", *run)
    assert status == 72, errors
    line = one_line(errors)
    assert f" of shard {0 if ranks == 1 else 6} on rank {ranks - 1} on " in line
    assert "changed in memory" in line
    status, output, errors = train(2, "--resume", "--out", folder)
    assert status == 0, errors
    assert "from memory" in output
    assert outcome(folder) == outcome(reference)


def test_what_is_kept_goes_only_when_it_is_on_disk(
    data: Path, tmp_path: Path, reference: Path
) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, *EPOCHS)
    assert struck(2, "1 4 forward kill", *run)[0] != 0
    # No room is left for as much again, and the disk is full, too.
    again = (INSIDE / "crowded_train.py", "full", "--resume", "--out", folder)
    status, output, errors = launcher.run(2, *again)
    assert status != 0
    assert "No space left on device" in output, errors
    assert "what was kept in memory stays there" in output
    assert memory_of(folder)
    again = (INSIDE / "crowded_train.py", "kill", "--resume", "--out", folder)
    status, _, errors = launcher.run(2, *again)
    assert status != 0
    assert not memory_of(folder)
    status, output, errors = train(2, "--resume", "--out", folder)
    assert status == 0, errors
    assert "resumed at step 4 of 6, epoch 2, from the checkpoint" in output
    assert outcome(folder) == outcome(reference)


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_full_disk_is_no_reason_not_to_go_on(
    ranks: int, data: Path, tmp_path: Path, reference: Path
) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, *EPOCHS)
    assert struck(2, "1 4 forward kill", *run)[0] != 0
    again = ("--resume", "--out", folder, "--checkpoint-every", 1)
    status, output, errors = struck(ranks, "0 5 forward free", *again)
    assert status == 0, errors
    for name in ("config.json", "metrics.jsonl", "a checkpoint to"):
        assert any(name in line and "No space left" in line for line in output.splitlines())
    assert load_weights(folder).sha256 == load_weights(reference).sha256


def test_memory_that_is_damaged_is_no_reason_to_stop(
    data: Path, tmp_path: Path, reference: Path
) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, *EPOCHS, "--resume", "if-any")
    # Before the first checkpoint; the update has gone over the step before, too.
    status, _, errors = struck(2, "1 1 reduce flip momentum", *run)
    assert status == 72, errors
    status, output, errors = train(2, *run)
    assert status == 0, errors
    assert "is not what was kept at step 1" in output
    assert outcome(folder) == outcome(reference)


def test_a_flipped_bit_that_makes_infinity_is_no_divergence(data: Path, tmp_path: Path) -> None:
    run = ("--data", data, "--out", tmp_path / "run", *SMALL, *EPOCHS)
    status, _, errors = struck(3, "1 4 forward infinity", *run)
    assert status == 72, errors
    assert "step 5: the parameters on rank 1 on " in one_line(errors)
    status, _, errors = train(2, "--resume", "--out", tmp_path / "run")
    assert status == 0, errors


def test_a_run_that_goes_on_is_not_resumed_by_others(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, "--epochs", 20)
    process = launcher.start(2, INSIDE / "slow_train.py", *run)
    wait_for_step(folder, 4)
    (partial := folder / "checkpoints" / ".step-00000003.h5.1.partial").touch()
    status, _, errors = train(2, "--resume", "--out", folder)
    assert status == 2
    assert f"the run in {folder} is still going on" in one_line(errors)
    assert partial.exists()  # it may be what the run is writing
    assert process.poll() is None
    # A copy of its folder is another run, which knows nothing of its memory.
    copy = shutil.copytree(folder, tmp_path / "copy")
    status, output, errors = train(2, "--resume", "--out", copy)
    process.send_signal(signal.SIGINT)
    assert "stopped by SIGINT" in launcher.finish(process)[1]
    assert status == 0, errors
    assert "from the checkpoint" in output


def test_two_runs_never_share_a_folder_even_with_nothing_in_memory(
    data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, "--epochs", 20, "--standby", "off")
    run += ("--checkpoint-every", 1000)
    process = launcher.start(2, INSIDE / "slow_train.py", *run)
    wait_for_step(folder, 1)
    status, _, errors = train(2, *run)
    assert status == 2
    assert f"another run has just begun in {folder}; choose another --out" in one_line(errors)
    status, _, errors = train(1, "--resume", "--out", folder)
    assert status == 2
    assert f"the run in {folder} is still going on" in one_line(errors)
    process.send_signal(signal.SIGINT)
    assert "stopped by SIGINT" in launcher.finish(process)[1]
    assert train(1, "--resume", "--out", folder)[0] == 0


def test_what_was_only_in_memory_is_on_disk_first(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, *EPOCHS, "--checkpoint-every", 100)
    assert struck(2, "1 3 forward kill", *run)[0] != 0
    # Nothing is kept any more, and a rank is killed at once.
    again = ("--resume", "--out", folder, "--standby", "off")
    assert struck(2, "1 3 forward kill", *again)[0] != 0
    assert [path.stem for path in (folder / "checkpoints").iterdir()] == ["step-00000003"]
    assert not memory_of(folder)
    status, output, errors = train(2, "--resume", "--out", folder)
    assert status == 0, errors
    assert "resumed at step 3 of 6, epoch 2, from the checkpoint" in output


def memory_of(folder: Path) -> list[Path]:
    """What a run has left in shared memory."""
    name = json.loads((folder / "config.json").read_text())["run"]
    return list(replica.folder().glob(f"{name}-*"))


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("victim", [0, -1])
def test_a_rank_without_progress_is_named(
    ranks: int, victim: int, data: Path, tmp_path: Path, reference: Path
) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, *EPOCHS, "--stall-timeout", STALL)
    fault = f"{victim % ranks} 4 forward {'stop' if ranks > 1 else 'hang'}"
    status, _, errors = struck(ranks, fault, *run)
    assert status == 71, errors
    what = "stopped" if ranks > 1 else "busy or hanging"
    line = one_line(errors)
    assert f"rank {victim % ranks} on " in line
    assert f"has made no progress for {STALL} s: {what}, in step 5 after: reading" in line
    status, output, errors = train(2, "--resume", "--out", folder)
    assert status == 0, errors
    assert "resumed at step 4 of 6, epoch 2, from memory" in output
    assert outcome(folder) == outcome(reference)


@pytest.mark.parametrize("victim", [0, 2])
def test_a_host_that_falls_silent_is_named(victim: int, data: Path, tmp_path: Path) -> None:
    run = ("--data", data, "--out", tmp_path / "run", *SMALL, "--stall-timeout", STALL)
    status, _, errors = launcher.run(
        3, INSIDE / "lonely_train.py", f"{victim} 1 forward stop", *run
    )
    assert status == 71, errors
    # Each of the other two hosts may come to say so.
    lines = [line for line in errors.splitlines() if "made no progress" in line]
    assert lines
    for line in lines:
        assert line.count("rank ") == 1
        assert f"rank {victim} on " in line
        assert "its host has gone silent" in line


def test_ranks_that_wait_for_each_other_are_all_named(data: Path, tmp_path: Path) -> None:
    run = ("--data", data, "--out", tmp_path / "run", *SMALL, "--stall-timeout", STALL)
    status, _, errors = struck(3, "1 1 reduce wait", *run)
    assert status == 71, errors
    assert one_line(errors).count("waiting for other ranks, in step 2") == 3


def test_the_watch_needs_no_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shm := tmp_path / "shm").mkdir()
    fallocate = os.posix_fallocate

    def full(handle: int, start: int, size: int) -> None:
        if Path(f"/proc/self/fd/{handle}").readlink().is_relative_to(shm):
            raise OSError(errno.ENOSPC, "No space left on device")
        fallocate(handle, start, size)

    monkeypatch.setattr(replica, "SHM", shm)
    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path, handle = stall._new_file(100)
    assert Path(path).read_bytes() == bytes(100)
    os.close(handle)
    assert [path.name[:6] for path in tmp_path.iterdir() if path.is_file()] == ["dist_v"]
    assert not [path for path in shm.rglob("*") if path.is_file()]


@pytest.mark.parametrize("fault", ["1 4 forward crawl", "0 4 forward creep"])
def test_a_slow_rank_or_disk_is_no_stall(
    fault: str, data: Path, tmp_path: Path, reference: Path
) -> None:
    run = ("--data", data, "--out", tmp_path / "run", *SMALL, *EPOCHS, "--stall-timeout", STALL)
    # Others wait for it for longer than that, but it makes progress.
    status, _, errors = struck(3, fault, *run)
    assert status == 0, errors
    assert outcome(tmp_path / "run") == outcome(reference)


def test_resume_if_any_begins_where_there_is_nothing(data: Path, tmp_path: Path) -> None:
    options = ("--data", data, "--out", tmp_path / "run", *SMALL, "--epochs", 1)
    for words in ("epoch 1/1", "resumed at step 3 of 3"):
        status, output, errors = train(2, *options, "--progress", "plain", "--resume", "if-any")
        assert status == 0, errors
        assert words in output


def test_without_standby_nothing_is_kept(data: Path, tmp_path: Path, reference: Path) -> None:
    folder = tmp_path / "run"
    for standby in (("--standby", "off"), ("--no-audit",)):
        shutil.rmtree(folder, ignore_errors=True)
        run = ("--data", data, "--out", folder, *SMALL, *EPOCHS, *standby)
        struck(3, "1 4 forward kill", *run)
        status, output, errors = train(2, "--resume", "--out", folder)
        assert status == 0, errors
        assert "resumed at step 3 of 6, epoch 2, from the checkpoint" in output
        assert load_weights(folder).sha256 == load_weights(reference).sha256


def test_a_checkpoint_that_cant_be_written_is_tried_again(
    data: Path, tmp_path: Path, reference: Path
) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, *EPOCHS, "--checkpoint-every", 1)
    status, output, errors = struck(3, "0 2 save full", *run)
    assert status == 0, errors
    assert output.count("warning: can't write a checkpoint to") == 1
    assert "No space left on device" in output
    assert outcome(folder) == outcome(reference)


def test_checkpoints_by_the_clock(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = ("--checkpoint-every", 100, "--checkpoint-minutes", 1e-6, "--keep", 9)
    status, _, errors = train(2, "--data", data, "--out", folder, *SMALL, *EPOCHS, *options)
    assert status == 0, errors
    assert len(list((folder / "checkpoints").iterdir())) == 6


def test_a_second_signal_ends_at_once_and_leaves_nothing(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    before = set(SHM.glob("*"))
    process = launcher.start(
        1, INSIDE / "slow_train.py", "--data", data, "--out", folder, *SMALL, "--epochs", 99
    )
    wait_for_step(folder, 2)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    status, _, errors = launcher.finish(process, timeout=30)
    assert status == 128 + signal.SIGTERM
    assert "Traceback" not in errors
    assert set(SHM.glob("*")) <= before
    assert not list(folder.glob("**/.*"))


def wait_for_step(folder: Path, step: int, seconds: float = 60) -> None:
    """Wait until a run has recorded so many steps."""
    end = time.monotonic() + seconds
    path = folder / "metrics.jsonl"
    while not (path.exists() and path.read_text().count('"kind": "step"') >= step):
        assert time.monotonic() < end, f"no step {step} in {seconds} s"
        time.sleep(0.02)


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


def test_nan_of_one_rank_names_that_rank(data: Path, tmp_path: Path) -> None:
    options = ("--data", data, "--out", tmp_path / "run", *SMALL, *EPOCHS)
    status, _, errors = launcher.run(3, INSIDE / "poisoned_train.py", *options)
    assert status == 70
    assert "step 1: NaN or Inf first seen in the output of layer conv1_1 on rank 2" in errors


def test_debug_computes_what_ranks_do_and_shows_layers(
    data: Path, tmp_path: Path, reference: Path
) -> None:
    folder = tmp_path / "run"
    status, output, errors = train(1, "--debug", "--data", data, "--out", folder, *SMALL, *EPOCHS)
    assert status == 0, errors
    assert outcome(folder) == outcome(reference)
    assert "all 32 gradients agree" in output
    assert "update/weight" in output
    assert "conv5_3" in output


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


def test_finished_run_resumes_to_nothing(data: Path, tmp_path: Path, reference: Path) -> None:
    folder = shutil.copytree(reference, tmp_path / "run")
    status, output, errors = train(2, "--resume", "--out", folder)
    assert status == 0, errors
    assert field(output, "parameters") == load_weights(reference).sha256
    assert outcome(folder) == outcome(reference)


def test_damaged_checkpoint_is_passed_over(data: Path, tmp_path: Path, reference: Path) -> None:
    folder = shutil.copytree(reference, tmp_path / "run")
    newest, before = sorted((folder / "checkpoints").iterdir(), reverse=True)
    newest.write_bytes(newest.read_bytes()[:5000])
    status, output, errors = train(3, "--resume", "--out", folder)
    assert status == 0, errors
    assert f"checkpoint {newest} is damaged" in output
    assert outcome(folder) == outcome(reference)
    before.unlink()


@pytest.mark.parametrize("change", ["params", "state", "epoch"])
def test_a_checkpoint_that_contradicts_itself_is_refused(
    change: str, data: Path, tmp_path: Path, reference: Path
) -> None:
    folder = shutil.copytree(reference, tmp_path / "run")
    state = load_newest(folder / "checkpoints", print)
    other = dict(
        params=dict(params=state.params[:9], state={"momentum": state.params[:9]}),
        state=dict(state={"velocity": state.state["momentum"]}),
        epoch=dict(epoch={"lost": 1.0}),
    )
    save_checkpoint(folder / "checkpoints", replace(state, **other[change]), 1)
    status, _, errors = train(2, "--resume", "--out", folder)
    assert status == 2
    assert "does not belong to the network and optimizer that it names" in one_line(errors)


def test_bad_starts_are_one_line(data: Path, tmp_path: Path, reference: Path) -> None:
    nowhere = tmp_path / "nowhere"
    toml = tmp_path / "recipe.toml"
    toml.write_text("epohcs = 3\n")
    cases: list[tuple[tuple[Any, ...], str]] = [
        (("--data", nowhere), f"no data folder {nowhere}; make one with: python -m data_prep"),
        (("--data", tmp_path), f"no shards in {tmp_path}; make them with: python -m data_prep"),
        (("--epohcs", 3), "unknown option --epohcs; did you mean --epochs?"),
        (("--lr", -1), "--lr -1.0 is out of range: it must be at least 0"),
        (("--config", toml), "unknown option epohcs; did you mean epochs?"),
        (("--data", data, "--out", reference), f"{reference} holds a run already"),
        (("--resume", "--out", nowhere), f"nothing to resume in {nowhere}"),
        (("--resume", "--out", reference, "--width", 0.5), "--width 0.5 contradicts"),
        (("--debug", "--data", data), "--debug is one process"),
        (("--pdb", "--data", data), "--pdb goes with --debug"),
        (("--data", data, "--out", toml / "run"), "can't make the run's folder"),
    ]
    for options, words in cases:
        ranks = 1 if "--pdb" in options else 2
        status, _, errors = train(ranks, *options)
        assert status == 2, (options, errors)
        assert words in one_line(errors)
    assert not nowhere.exists()


def test_more_ranks_than_shards(data: Path) -> None:
    status, _, errors = train(9, "--data", data)
    assert status == 2
    assert "9 ranks for 8 shards" in one_line(errors)
    assert "start at most 8 ranks" in errors


def test_other_data_set_on_resume(data: Path, tmp_path: Path, reference: Path) -> None:
    other = shutil.copytree(data, tmp_path / "other")
    for path in other.iterdir():
        say(path, digest="0" * 64)
    status, _, errors = train(2, "--resume", "--out", reference, "--data", other)
    assert status == 2
    assert "another data set" in one_line(errors)


def test_other_shards_of_the_same_images_on_resume(
    data: Path, tmp_path: Path, reference: Path
) -> None:
    other = shutil.copytree(data, tmp_path / "other")
    for path in other.iterdir():
        say(path, request='{"seed": 1}')
    status, _, errors = train(2, "--resume", "--out", reference, "--data", other)
    assert status == 2
    assert "the same images in 8 others" in one_line(errors)


def test_longer_constant_run_is_the_one_never_stopped(data: Path, tmp_path: Path) -> None:
    options = ("--data", data, *SMALL, "--schedule", "constant", "--warmup", 10)
    for name, epochs in (("short", 1), ("long", 2)):
        status, _, errors = train(2, *options, "--out", tmp_path / name, "--epochs", epochs)
        assert status == 0, errors
    status, _, errors = train(3, "--resume", "--out", tmp_path / "short", "--epochs", 2)
    assert status == 0, errors
    assert outcome(tmp_path / "short") == outcome(tmp_path / "long")
    stored = json.loads((tmp_path / "short" / "config.json").read_text())
    assert [start["ranks"] for start in (stored, *stored["resumed"])] == [2, 3]


def test_run_that_never_came_to_a_checkpoint_may_be_started_again(
    data: Path, tmp_path: Path
) -> None:
    options = ("--data", data, "--out", tmp_path / "run", *SMALL, "--epochs", 1)
    status, _, _ = train(1, *options, "--lr", 1e30, "--clip", 0, "--warmup", 0)
    assert status == 70
    status, _, errors = train(1, *options)
    assert status == 0, errors
    assert len(read_metrics(tmp_path / "run", "step")) == 3


def test_seconds_of_each_step_are_its_own(reference: Path) -> None:
    for record in read_metrics(reference, "step"):
        seconds = record["seconds"]
        assert list(seconds) == list(SPANS)
        # Every part of a step takes some time, and together they are the step.
        assert all(seconds[name] > 0 for name in SPANS)
        images = record["images_per_s"] * sum(seconds.values())
        assert images == pytest.approx(round(images), rel=1e-3)


@pytest.mark.parametrize("harm", ["missing", "short", "flipped"])
def test_harmed_shard_is_named(harm: str, data: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(data, tmp_path / "data")
    path = copy / "train-00006-of-00008.h5"
    if harm == "missing":
        path.unlink()
    elif harm == "short":
        path.write_bytes(path.read_bytes()[:3000])
    else:
        with h5py.File(path) as file:
            place = file["pixels"].id.get_chunk_info(0).byte_offset
        content = bytearray(path.read_bytes())
        content[place + 100] ^= 1
        path.write_bytes(content)
    status, _, errors = train(3, "--data", copy, "--out", tmp_path / "run", *SMALL)
    assert status == 2
    assert str(path) in one_line(errors)
    assert not (tmp_path / "run").exists()


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


@pytest.mark.parametrize("ranks", [2, 3])
def test_little_shared_memory(ranks: int, data: Path, tmp_path: Path, reference: Path) -> None:
    (shm := tmp_path / "shm").mkdir()
    run = (shm, "--data", data, "--out", tmp_path / "run", *SMALL, *EPOCHS)
    status, _, errors = launcher.run(
        ranks, INSIDE / "little_memory_train.py", *run, "--route", "node"
    )
    assert status == 2, errors
    assert "--route node needs" in one_line(errors)
    assert not (tmp_path / "run").exists()
    status, output, errors = launcher.run(ranks, INSIDE / "little_memory_train.py", *run)
    assert status == 0, errors
    assert "route flat" in output
    assert "standby none: " in output
    assert outcome(tmp_path / "run") == outcome(reference)
    assert not list(shm.iterdir())


def test_config_file_and_command_line(data: Path, tmp_path: Path) -> None:
    toml = tmp_path / "recipe.toml"
    toml.write_text('width = 0.02\nmicro-batch = 3\nlr = 0.5\nprogress = "none"\nepochs = 1\n')
    folder = tmp_path / "run"
    status, _, errors = train(1, "--config", toml, "--data", data, "--out", folder, "--lr", 0.25)
    assert status == 0, errors
    stored = json.loads((folder / "config.json").read_text())
    assert (stored["config"]["lr"], stored["config"]["micro_batch"]) == (0.25, 3)
    assert {"numpy", "mpi", "blas", "mpi4py"} <= set(stored["versions"])
    assert stored["ranks"] == 1


def test_import_starts_no_mpi() -> None:
    code = "import sys, dist_vgg.train, dist_vgg.evaluate; sys.exit('mpi4py.MPI' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=launcher.ROOT)
