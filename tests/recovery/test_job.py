"""The processes of a job: the ranks among them are known, and nothing is left behind."""

import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

import launcher
import pytest
from fake_jobs import alive, run, start, starts, wait_for_last_step
from launcher import one_line

from dist_vgg.recovery import job
from dist_vgg.recovery.job import Job
from dist_vgg.recovery.monitor import Monitor


def test_the_first_to_end_is_named_where_all_were_seen(tmp_path: Path) -> None:
    started = Job(tmp_path, "module")
    ranks = [subprocess.Popen(["sleep", "60"]) for _ in range(3)]
    for number, rank in enumerate(ranks):
        started.names[rank.pid] = f"rank {number}"
        started._watch_end(rank.pid)
    for rank in reversed(ranks):
        rank.kill()
        rank.wait()
    started.mpirun = subprocess.Popen(["sleep", "1"])
    assert Monitor(started, [], stall=0, patience=60).wait() == ""
    started.size = 3
    assert started.describe_loss("why") == "lost a rank (rank 2 ended first; why)"
    started.size = 4
    assert started.describe_loss("why") == "lost a rank (why)"


def test_end_of_a_ranks_child_is_no_loss(tmp_path: Path) -> None:
    status, output, errors = run("-n", 1, "--", "--out", tmp_path, "--fork", "--steps", 50)
    assert status == 0, errors
    assert "elastic:" not in output


def test_job_saves_and_ends_with_its_supervisor(tmp_path: Path) -> None:
    process = start("-n", 3, "--", "--out", tmp_path, "--steps", 30)
    wait_for_last_step(tmp_path, 2)
    assert "another dist_vgg.elastic is at work in" in one_line(
        run("-n", 1, "--", "--out", tmp_path)[2]
    )
    process.kill()
    process.wait()
    end = time.monotonic() + 10
    while alive():
        assert time.monotonic() < end, "orphans"
        time.sleep(0.05)
    # Open MPI sends SIGTERM to the last ones when the first has ended.
    assert (tmp_path / "received").read_text().count("SIGUSR1") == 3
    status, _, errors = run("-n", 2, "--", "--out", tmp_path, "--steps", 30)
    assert status == 0, errors
    assert starts(tmp_path, "size") == [3, 2]


def test_leftovers_of_a_dead_supervisor_are_ended_first(tmp_path: Path) -> None:
    environ = {**os.environ, "DIST_VGG_ELASTIC": str(tmp_path)}
    left = subprocess.Popen(["sleep", "1"], env=environ)
    # One of them is a rank, whose end is watched for.
    environ |= dict(PMI_RANK="0", PMI_SIZE="1", PYTHONPATH=str(launcher.ROOT))
    options = ("--out", str(tmp_path / "other"), "--steps", "5")
    command = [sys.executable, "-m", "tests.inside_ranks.fake_train", *options]
    rank = subprocess.Popen(command, env=environ, cwd=launcher.ROOT)
    status, output, errors = run("-n", 1, "--", "--out", tmp_path)
    assert status == 0, errors
    assert "waiting for the job of an earlier start" in output
    assert left.wait() == rank.wait() == 0


def test_names_that_mpi_left_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job.shm, "SHM", tmp_path)
    paths = {name: tmp_path / f"mpich_sh{name}" for name in ("used", "old", "left", "young")}
    for path in paths.values():
        path.write_bytes(bytes(100))
        os.utime(path, (3000, 3000))
    os.utime(paths["old"], (1000, 1000))
    paths["young"].touch()
    with paths["used"].open("r+b") as file, mmap.mmap(file.fileno(), 100):
        job.unlink_unused_memory(2000)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["mpich_shold", "mpich_shused", "mpich_shyoung"]
