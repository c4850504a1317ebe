"""Finding the newest state that is whole: in the memory of the nodes, else on disk.

Each host has kept the parameters, and those pieces of the optimizer's state that its ranks
owned. A step can be recalled where the hosts that are here now have all pieces of it between
them; its numbers must have the checksums that they were kept with.
"""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from dist_vgg.base.errors import UserError
from dist_vgg.base.files import lock
from dist_vgg.mpi.collectives import allgather_text, allreduce_sum, bcast_text, collective_errors
from dist_vgg.runs.folder import run_name
from dist_vgg.state import standby
from dist_vgg.state.checkpoint import Checkpoint, checkpoints, load_newest, step_of
from dist_vgg.state.standby import Kept

if TYPE_CHECKING:
    from mpi4py import MPI

DYING = 5.0  # seconds that the last processes of an earlier start may take to end
FIELDS = [field.name for field in fields(Checkpoint) if field.name not in ("params", "state")]


def load_state(
    folder: Path,
    comm: "MPI.Intracomm",
    must: bool = True,
    beat: Callable[[str, int], object] = lambda done, step: None,
) -> tuple[Checkpoint | None, dict[str, Any], str]:
    """A run's newest whole state, on rank 0; on every rank what it says of itself, and its place.

    Where there is none, raises UserError if there must be one, else the three are empty. `beat` is
    called as `stall.watched` wants it.
    """
    known: dict[str, Any] = {}
    with collective_errors(comm):
        if comm.rank == 0:
            known = _on_disk(folder)
            if must and not known["is_run"]:
                raise UserError(f"nothing to resume in {folder}; name a run's folder with --out")
    known = json.loads(bcast_text(comm, json.dumps(known)))
    run = known["run"]
    with collective_errors(comm):
        end = time.monotonic() + DYING
        while (run and standby.in_use(run, folder)) or (comm.rank == 0 and not _ours(folder)):
            if time.monotonic() > end:
                raise UserError(f"the run in {folder} is still going on; wait for it, or end it")
            time.sleep(0.1)
            beat("looking whether the run goes on", 0)
    with collective_errors(comm):
        if comm.rank == 0:
            _clear(folder)
    state = recall(comm, run, folder, known["step"]) if run else None
    place = bcast_text(comm, "memory" if state else "the checkpoint")
    with collective_errors(comm):
        if comm.rank == 0 and state is None and (known["step"] >= 0 or must):
            state = load_newest(folder / "checkpoints", lambda words: print(words, flush=True))
    header = {} if state is None else {name: getattr(state, name) for name in FIELDS}
    return state, json.loads(bcast_text(comm, json.dumps(header))), place


def _on_disk(folder: Path) -> dict[str, Any]:
    """The run in a folder: its name, and the step of its newest checkpoint, or -1."""
    newest = next(iter(checkpoints(folder / "checkpoints")), None)
    step = step_of(newest) if newest else -1
    return dict(run=run_name(folder), step=step, is_run=(folder / "checkpoints").is_dir())


def _ours(folder: Path) -> bool:
    """Whether no other process is at work in a run's folder; from now on none can be."""
    return not (folder / "checkpoints").is_dir() or lock(folder / "checkpoints")


def _clear(folder: Path) -> None:
    """Remove what a process that was killed while it wrote has left."""
    for place in (folder, folder / "checkpoints"):
        for leftover in place.glob(".*.partial"):
            with suppress(OSError):  # a disk that can't be written to, say
                leftover.unlink()


def first_of_host(comm: "MPI.Intracomm") -> bool:
    """Whether this rank is the one of its host to deal with what is in the host's memory."""
    from mpi4py import MPI

    hosts = allgather_text(comm, MPI.Get_processor_name())
    return hosts.index(hosts[comm.rank]) == comm.rank


def recall(comm: "MPI.Intracomm", run: str, home: Path, at_least: int) -> Checkpoint | None:
    """The newest state that the hosts' memory holds whole, on rank 0; None where it holds none.

    `home` is the run's folder. A state older than the step `at_least` is of no interest.
    """
    reads = first_of_host(comm)
    copies = [c for c in standby.kept(run, home) if c.step >= at_least] if reads else []
    claims = [dict(rank=comm.rank, index=k, **c.claim()) for k, c in enumerate(copies)]
    everyone = [
        claim for text in allgather_text(comm, json.dumps(claims)) for claim in json.loads(text)
    ]
    everyone.sort(key=lambda claim: (-claim["step"], claim["rank"], claim["index"]))
    for step in sorted({claim["step"] for claim in everyone}, reverse=True):
        offers = [claim for claim in everyone if claim["step"] == step]
        if not _complete(offers):
            continue
        mine = [copies[claim["index"]] for claim in offers if claim["rank"] == comm.rank]
        bad = ", ".join(str(copy.path) for copy in mine if not copy.verify())
        damaged = [text for text in allgather_text(comm, bad) if text]
        if damaged:
            print(f"memory {damaged[0]} is not what was kept at step {step}; trying an older state")
            continue
        return _assemble(comm, offers, copies)
    return None


def _complete(offers: list[dict[str, Any]]) -> bool:
    """Whether the offers have every piece of the optimizer's state between them."""
    end = 0
    for lo, hi in sorted(tuple(piece) for offer in offers for piece in offer["pieces"]):
        if lo > end:
            return False
        end = max(end, hi)
    return end == offers[0]["count"]


def _assemble(
    comm: "MPI.Intracomm", offers: list[dict[str, Any]], copies: list[Kept]
) -> Checkpoint | None:
    """Put a state together on rank 0, each piece from the first that offers it."""
    from mpi4py import MPI

    givers = {offer["rank"] for offer in offers}
    colour = 0 if comm.rank in givers or comm.rank == 0 else MPI.UNDEFINED
    part = cast("MPI.Intracomm", comm.Split(colour, comm.rank))
    if part == MPI.COMM_NULL:
        return None
    first = offers[0]
    given = np.zeros(first["count"], bool)
    vectors = [np.zeros(first["count"], np.float32) for _ in range(1 + len(first["names"]))]
    for number, offer in enumerate(offers):
        for lo, hi in offer["pieces"]:
            if offer["rank"] == comm.rank:
                new = ~given[lo:hi]
                for vector, source in zip(
                    vectors[1:], copies[offer["index"]].vectors[1:], strict=True
                ):
                    vector[lo:hi][new] = source[lo:hi][new]
            given[lo:hi] = True
        if number == 0 and offer["rank"] == comm.rank:
            vectors[0][:] = copies[offer["index"]].vectors[0]
    if part.size > 1:
        for vector in vectors:
            # As whole numbers, since -0.0 + 0.0 is not -0.0; every other rank has zeros there.
            allreduce_sum(part, vector.view(np.uint32))
    if comm.rank:
        return None
    params, *state = vectors
    header = {name: first["header"][name] for name in FIELDS}
    return Checkpoint(**header, params=params, state=dict(zip(first["names"], state, strict=True)))
