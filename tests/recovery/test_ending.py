"""How a start ended: what its status means, and what the run recorded last."""

import json
import subprocess
from pathlib import Path

import pytest

from dist_vgg.recovery.ending import judge, last_step
from dist_vgg.recovery.job import Job


@pytest.mark.parametrize(
    ("status", "trouble", "lost", "why"),
    [
        (0, "", 0, "training has not finished (mpirun ended with status 0)"),
        (1, "", 0, "a rank failed (mpirun ended with status 1)"),
        (2, "", 0, "training can't go on (mpirun ended with status 2)"),
        (9, "", 1, "lost a rank (mpirun ended with status 9)"),
        (71, "", 1, "a rank stalled (mpirun ended with status 71)"),
        (72, "", 0, "checksums or replicas disagree (mpirun ended with status 72)"),
        (137, "", 1, "lost a rank (mpirun ended with status 137)"),
        (137, "rank 2 has been stopped", 1, "rank 2 has been stopped"),
        (255, "", 0, "mpirun failed (mpirun ended with status 255)"),
    ],
)
def test_each_status_has_its_meaning(
    status: int, trouble: str, lost: int, why: str, tmp_path: Path
) -> None:
    job = Job(tmp_path, "module")
    job.mpirun = subprocess.Popen(["true"])
    job.mpirun.wait()
    assert judge(status, trouble, job) == (lost, why)


def test_mpirun_killed_by_a_signal_has_lost_no_rank(tmp_path: Path) -> None:
    job = Job(tmp_path, "module")
    job.mpirun = subprocess.Popen(["sleep", "60"])
    job.mpirun.kill()
    job.mpirun.wait()
    assert judge(137, "", job) == (0, "mpirun failed (mpirun ended with status 137)")


def test_last_step_passes_over_a_torn_line(tmp_path: Path) -> None:
    assert last_step(tmp_path) == 0
    lines = "".join(json.dumps({"kind": "step", "step": n}) + "\n" for n in range(1, 9999))
    (tmp_path / "metrics.jsonl").write_text(lines + '{"kind": "st')
    assert last_step(tmp_path) == 9998
