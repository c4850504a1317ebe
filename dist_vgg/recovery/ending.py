"""How a start of a job ended: what its status means, and what the run recorded last."""

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dist_vgg.base.errors import RankError, UserError
from dist_vgg.recovery.job import Job


@dataclass(frozen=True)
class Ending:
    """How a start ended, and what follows from it."""

    status: int  # mpirun's, as the shell reports it
    step: int  # the last one recorded
    final: bool  # whether the job must not be started again
    signal: int  # that others sent to the job to stop it; 0 if none
    lost: int  # ranks
    why: str


def judge(status: int, trouble: str, job: Job) -> tuple[int, str]:
    """How many ranks count as lost, and what happened, in words.

    `trouble` is what `Monitor.wait` found, if anything.
    """
    ending = f"mpirun ended with status {status}"
    if trouble:
        return 1, trouble
    if status in (0, 1, 255) or job.mpirun.returncode < 0:
        # 255 is mpirun's own, as where it can't reach a host
        what = {0: "training has not finished", 1: "a rank failed"}.get(status, "mpirun failed")
        return 0, f"{what} ({ending})"
    if status == UserError.status:
        return 0, f"training can't go on ({ending})"
    if status == RankError.STALLED:
        return 1, f"a rank stalled ({ending})"
    if status == RankError.CORRUPT:
        return 0, f"checksums or replicas disagree ({ending})"
    # A rank killed by signal n: MPICH ends with n, Open MPI with 128 + n.
    return 1, job.describe_loss(ending)


def last_step(folder: Path) -> int:
    """The last step that the run has recorded, or 0."""
    return int(last_record(folder).get("step", 0))


def last_record(folder: Path) -> dict[str, Any]:
    """The last whole record of a run's metrics, or an empty one."""
    with suppress(OSError), (folder / "metrics.jsonl").open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - (1 << 16)))
        for line in reversed(file.read().splitlines()):
            with suppress(ValueError, KeyError, TypeError):  # torn by the end of its writer
                record = json.loads(line)
                return {**record, "step": int(record["step"])}
    return {}
