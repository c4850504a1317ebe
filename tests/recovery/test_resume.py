"""Going on with a run: the newest whole state is found, and no other process is at work."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import launcher
from launcher import one_line, train
from sets import in_some_cases
from training import EPOCHS, INSIDE, SHM, SMALL, memory_of, outcome, struck, wait_for_step


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
@in_some_cases(
    ("ranks", "later", "options", "fault", "resumed"),
    each=[(3, 2, (), "1 4 forward kill", "step 4 of 6")],
    usual=[
        (5, 8, (), "4 4 update kill", "step 4 of 6"),
        (3, 2, ("--route", "flat"), "2 4 reduce kill", "step 4 of 6"),
        (2, 1, (), "0 0 share kill", "step 0 of 6"),
        (1, 3, (), "0 4 share kill", "step 4 of 6"),
        (3, 1, (), "0 4 update flip gradient", "step 4 of 6"),
        # These are noticed in the update, which has begun to go over the step before.
        (3, 3, ("--route", "flat"), "2 4 update flip parameters", "step 3 of 6"),
        (3, 1, (), "1 4 reduce flip parameters", "step 3 of 6"),
        (2, 1, (), "1 4 reduce flip momentum", "step 3 of 6"),
        (3, 1, (), "2 4 update flip momentum", "step 3 of 6"),
    ],
)
def test_struck_and_resumed_is_never_struck(
    small: tuple[object, ...],
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
    run = ("--data", data, "--out", folder, *small, *EPOCHS, *options)
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
    status, _, errors = train(1, *run)
    assert status == 2
    assert f"{folder} holds a run already; go on with --resume" in one_line(errors)
    status, output, errors = train(1, "--resume", "--out", folder)
    assert status == 0, errors
    assert "resumed at step 2 of 3, epoch 1, from memory" in output


def test_memory_that_is_damaged_is_no_reason_to_stop(
    data: Path, tmp_path: Path, reference: Path
) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, *EPOCHS, "--resume", "if-any")
    # Before the first checkpoint; the update has gone over the step before, too.
    status, _, errors = struck(2, "1 1 reduce flip momentum", *run)
    assert status == 72, errors
    status, output, errors = train(1, *run)
    assert status == 0, errors
    assert "is not what was kept at step 1" in output
    assert outcome(folder) == outcome(reference)


def test_a_run_that_goes_on_is_not_resumed_by_others(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, "--epochs", 40)
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
    status, output, errors = train(1, "--resume", "--out", copy)
    process.send_signal(signal.SIGINT)
    assert "stopped by Ctrl-C" in launcher.finish(process)[1]
    assert status == 0, errors
    assert "from the checkpoint" in output


def test_two_runs_never_share_a_folder_even_with_nothing_in_memory(
    data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, "--epochs", 40, "--standby", "off")
    run += ("--checkpoint-every", 1000)
    process = launcher.start(2, INSIDE / "slow_train.py", *run)
    wait_for_step(folder, 1)
    status, _, errors = train(1, *run)
    assert status == 2
    assert f"another run has just begun in {folder}; choose another --out" in one_line(errors)
    status, _, errors = train(1, "--resume", "--out", folder)
    assert status == 2
    assert f"the run in {folder} is still going on" in one_line(errors)
    process.send_signal(signal.SIGINT)
    assert "stopped by Ctrl-C" in launcher.finish(process)[1]
    assert train(1, "--resume", "--out", folder)[0] == 0
