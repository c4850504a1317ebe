"""The newest whole state of a run: in the memory of its hosts, else on disk."""

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dist_vgg.base.errors import UserError
from dist_vgg.base.files import lock
from dist_vgg.mpi.collectives import bcast_text, collective_errors
from dist_vgg.recovery.host_memory import HEADER_FIELDS, load_from_memory
from dist_vgg.recovery.watchdog import Beat
from dist_vgg.runs.folder import run_name
from dist_vgg.state import standby
from dist_vgg.state.checkpoint import Checkpoint, checkpoints, load_newest, step_of
from dist_vgg.state.checksums import PARAMETERS, whole_sum

if TYPE_CHECKING:
    from mpi4py import MPI

MEMORY, DISK = "memory", "the checkpoint"  # places of a state
DYING = 5.0  # seconds that the last processes of an earlier start may take to end


@dataclass
class Found:
    """A state to go on from."""

    checkpoint: Checkpoint | None  # on rank 0 alone
    header: dict[str, Any]  # the checkpoint's fields other than its vectors
    place: str  # MEMORY or DISK
    sums: dict[str, int]  # checksums of its vectors, by name, since it was verified

    @property
    def unsaved(self) -> Checkpoint | None:
        """The state, on rank 0, if it is not on disk yet."""
        return self.checkpoint if self.place == MEMORY else None


def find_state(
    folder: Path,
    comm: "MPI.Intracomm",
    required: bool = True,
    beat: Beat = lambda done, step: None,
) -> Found | None:
    """Find a run's newest whole state. Every rank must call it.

    If there is none, raises UserError where it is `required`, else returns None. `beat` is called
    with signs of progress, see `watchdog.watched`.
    """
    run, newest = _look_into(folder, comm, required)
    _wait_until_unused(run, folder, comm, beat)
    with collective_errors(comm):
        if comm.rank == 0:
            _remove_partial_files(folder)
    checkpoint = load_from_memory(comm, run, folder, newest) if run else None
    place = bcast_text(comm, MEMORY if checkpoint else DISK)
    with collective_errors(comm):
        if comm.rank == 0 and checkpoint is None and (newest >= 0 or required):
            checkpoint = load_newest(folder / "checkpoints", lambda words: print(words, flush=True))
    header = {name: getattr(checkpoint, name) for name in HEADER_FIELDS} if checkpoint else {}
    header = json.loads(bcast_text(comm, json.dumps(header)))
    vectors = {PARAMETERS: checkpoint.params, **checkpoint.state} if checkpoint else {}
    sums = {name: whole_sum(vector) for name, vector in vectors.items()}
    return Found(checkpoint, header, place, sums) if header else None


def _look_into(folder: Path, comm: "MPI.Intracomm", required: bool) -> tuple[str, int]:
    """The name of the run in rank 0's folder, or "", and its newest checkpoint's step, or -1."""
    name, step = "", -1
    with collective_errors(comm):
        if comm.rank == 0:
            newest = next(iter(checkpoints(folder / "checkpoints")), None)
            name, step = run_name(folder), step_of(newest) if newest else -1
            if required and not (folder / "checkpoints").is_dir():
                raise UserError(f"nothing to resume in {folder}; name a run's folder with --out")
    name, step = json.loads(bcast_text(comm, json.dumps([name, step])))
    return name, step


def _wait_until_unused(run: str, folder: Path, comm: "MPI.Intracomm", beat: Beat) -> None:
    """Wait until no process of an earlier start is left; UserError if the run is still going on."""
    with collective_errors(comm):
        end = time.monotonic() + DYING
        while (run and standby.in_use(run, folder)) or (comm.rank == 0 and not _lock(folder)):
            if time.monotonic() > end:
                raise UserError(f"the run in {folder} is still going on; wait for it, or end it")
            time.sleep(0.1)
            beat("looking whether the run goes on", 0)


def _lock(folder: Path) -> bool:
    """Keep other processes out of a run's folder; False if one is at work in it."""
    return not (folder / "checkpoints").is_dir() or lock(folder / "checkpoints")


def _remove_partial_files(folder: Path) -> None:
    """Remove what a process that was killed while it wrote has left."""
    for place in (folder, folder / "checkpoints"):
        for partial in place.glob(".*.partial"):
            with suppress(OSError):  # a disk that can't be written to, say
                partial.unlink()
