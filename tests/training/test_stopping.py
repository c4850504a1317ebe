"""A run that a signal stops saves, says so, and goes on as if it had never been stopped."""

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import launcher
import pytest
from launcher import train
from sets import in_some_cases
from training import EPOCHS, INSIDE, SMALL, outcome, wait_for_step

from dist_vgg.base.errors import signal_name
from dist_vgg.runs.log import read_metrics


@in_some_cases(
    ("number", "ranks", "later"),
    each=[(signal.SIGTERM, 3, 2)],
    usual=[
        (signal.SIGINT, 3, 4),
        (signal.SIGUSR1, 3, 1),
        (signal.SIGINT, 1, 2),
        (signal.SIGTERM, 1, 1),
        (signal.SIGUSR1, 1, 1),
    ],
)
def test_stopped_and_resumed_is_never_stopped(
    small: tuple[object, ...],
    ranks: int,
    later: int,
    number: signal.Signals,
    data: Path,
    tmp_path: Path,
    reference: Path,
) -> None:
    folder = tmp_path / "run"
    # Slow steps, so that the signal comes in the middle of the run.
    process = launcher.start(
        ranks, INSIDE / "slow_train.py", "--data", data, "--out", folder, *small, *EPOCHS
    )
    wait_for_step(folder, 2)
    process.send_signal(number)
    status, output, errors = launcher.finish(process)
    assert status != 0
    assert f"stopped by {signal_name(number)} after step" in output, output + errors
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
def test_the_head_of_a_run_says_how_to_stop_it(ranks: int, data: Path, tmp_path: Path) -> None:
    run = ("--data", data, "--out", tmp_path / "run", *SMALL, "--epochs", 50)
    process = launcher.start(ranks, INSIDE / "slow_train.py", *run)
    assert process.stdout
    head = next(line for line in process.stdout if line.startswith("stop "))
    wait_for_step(tmp_path / "run", 1)
    subprocess.run(shlex.split(head.split(maxsplit=1)[1].partition(" (")[0]), check=True)
    status, output, errors = launcher.finish(process)
    assert status == 128 + signal.SIGUSR1, errors
    assert "stopped by SIGUSR1 after step" in output


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
    status, _, errors = train(1, "--resume", "--out", folder)
    assert status == 0, errors
    assert outcome(folder) == outcome(reference)


@pytest.mark.alone
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
    assert train(1, "--resume", "--out", folder)[0] == 0
    assert outcome(folder) == outcome(reference)


@pytest.mark.alone
@pytest.mark.parametrize("ranks", [1, 3])
def test_ctrl_c_twice_leaves_nothing(
    ranks: int, data: Path, tmp_path: Path, memory: set[Path]
) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, "--epochs", 99)
    process = launcher.start(ranks, INSIDE / "slow_train.py", *run)
    wait_for_step(folder, 2)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    time.sleep(0.05)  # less than a step
    os.killpg(process.pid, signal.SIGINT)
    status, output, errors = launcher.finish(process, timeout=20)
    # MPICH's mpirun may end with 0 where its second Ctrl-C comes while it ends its ranks.
    assert status != 0 or ranks > 1
    assert memory
    assert not [path for path in memory if path.exists()], (status, output, errors)
    assert not [path for path in folder.rglob("*") if path.name.endswith(".partial")]


@pytest.mark.alone
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
    assert train(1, "--resume", "--out", folder)[0] == 0
    assert outcome(folder) == outcome(reference)


@pytest.mark.alone
def test_a_second_signal_ends_at_once_and_leaves_nothing(
    data: Path, tmp_path: Path, memory: set[Path]
) -> None:
    folder = tmp_path / "run"
    process = launcher.start(
        1, INSIDE / "slow_train.py", "--data", data, "--out", folder, *SMALL, "--epochs", 99
    )
    wait_for_step(folder, 2)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    status, output, errors = launcher.finish(process, timeout=30)
    assert status == 128 + signal.SIGTERM
    assert "Traceback" not in errors
    assert memory
    assert not [path for path in memory if path.exists()], (output, errors)
    assert not list(folder.glob("**/.*"))
