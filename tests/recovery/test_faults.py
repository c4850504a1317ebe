"""Training when something breaks: ranks, memory, disks and bits, and the same weights after all."""

import errno
import json
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

import launcher
import pytest
from launcher import one_line, train
from training import EPOCHS, INSIDE, SHM, SMALL, STALL, outcome, struck, wait_for_step

from dist_vgg.recovery import watchdog
from dist_vgg.state import replica
from dist_vgg.state.checkpoint import load_weights


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
    memory: set[Path],
) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, *EPOCHS, *options)
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
    assert memory
    assert not [path for path in memory if path.parent == SHM and path.exists()]
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
    assert "stopped by Ctrl-C" in launcher.finish(process)[1]
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
    assert "stopped by Ctrl-C" in launcher.finish(process)[1]
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
    path, handle = watchdog._new_file(100)
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
