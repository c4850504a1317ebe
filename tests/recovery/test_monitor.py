"""The watch over a job: signals are passed on, and stopped ranks and a hung mpirun are found."""

import os
import platform
import signal
import time
from pathlib import Path

import pytest
from fake_jobs import alive, fake_mpirun, finish, run, start, starts, wait_for_last_step

from dist_vgg.base.errors import signal_name


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_signal_is_passed_on_once(number: signal.Signals, tmp_path: Path) -> None:
    process = start("-n", 3, "--", "--out", tmp_path, "--steps", 999)
    wait_for_last_step(tmp_path, 2)
    os.killpg(process.pid, number)  # as a terminal does
    status, output, errors = finish(process, timeout=20)
    assert status == 128 + number, errors
    assert f"stopped by {signal_name(number)}" in output
    # Open MPI sends SIGTERM to the last ones when the first has ended.
    assert (tmp_path / "received").read_text().count("SIGUSR1") == 3
    assert "SIGINT" not in (tmp_path / "received").read_text()
    assert starts(tmp_path, "size") == [3]


def test_two_signals_at_once_are_both_handed_on(tmp_path: Path) -> None:
    process = start("-n", 3, "--", "--out", tmp_path, "--steps", 999)
    wait_for_last_step(tmp_path, 2)
    os.kill(process.pid, signal.SIGINT)
    os.kill(process.pid, signal.SIGTERM)
    assert finish(process, timeout=10)[0] in (130, 143)
    assert (tmp_path / "received").read_text().count("SIGUSR1") == 3
    assert not alive()


def test_second_signal_ends_at_once(tmp_path: Path) -> None:
    process = start("-n", 3, "--", "--out", tmp_path, "--steps", 999, "--deaf")
    wait_for_last_step(tmp_path, 2)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert finish(process, timeout=5)[0] == 130
    assert not alive()


@pytest.mark.parametrize("ranks", [1, 3])
def test_stopped_rank_is_found(ranks: int, tmp_path: Path) -> None:
    options = ("--out", tmp_path, "--mishap", "stop", "--stall-timeout", 0.5)
    status, output, errors = run("-n", ranks, "--", *options)
    assert status == 0, errors
    pid = starts(tmp_path, "pid", ranks - 1)[0]
    assert f"rank {ranks - 1} on {platform.node()} (pid {pid}) has been stopped for " in output
    assert starts(tmp_path, "size") == [ranks, max(1, ranks - 1)]


def test_hung_mpirun_is_ended(tmp_path: Path) -> None:
    script = 'shift 2; PMI_RANK=0 PMI_SIZE=1 "$@" & sleep 60'
    mpirun = fake_mpirun(tmp_path / "mpirun", script)
    options = ("--mpirun", mpirun, "--max-restarts", 0)
    status, _, errors = run("-n", 1, *options, "--", "--out", tmp_path / "run", "--mishap", "kill")
    assert status == 75
    assert "lost a rank (rank 0 ended first; mpirun hung and was killed)" in errors
    assert not alive()
