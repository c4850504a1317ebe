"""What earlier processes of a run have left in the memory of its hosts: found, used, removed.

Each host has kept the parameters, and those pieces of the optimizer's state that its ranks
owned. A step can be loaded if the hosts that are here now have all pieces of it between them;
its numbers must have the checksums that they were kept with.

All functions are collective: every rank must call them.
"""

import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from dist_vgg.base.errors import UserError
from dist_vgg.mpi.collectives import allgather_text, allreduce_sum, barrier, collective_errors
from dist_vgg.state import standby
from dist_vgg.state.checkpoint import ABSENT, Checkpoint, save_checkpoint

if TYPE_CHECKING:
    from mpi4py import MPI

HEADER_FIELDS = [f.name for f in fields(Checkpoint) if f.name not in ("params", "state")]


def first_of_host(comm: "MPI.Intracomm") -> bool:
    """Whether this rank is the one of its host to deal with what is in the host's memory."""
    from mpi4py import MPI

    hosts = allgather_text(comm, MPI.Get_processor_name())
    return hosts.index(hosts[comm.rank]) == comm.rank


def load_from_memory(
    comm: "MPI.Intracomm", run: str, home: Path, at_least: int
) -> Checkpoint | None:
    """The newest state that the hosts hold whole, on rank 0; None elsewhere or if there is none.

    `home` is the run's folder. A state older than the step `at_least` is of no interest.
    """
    reads = first_of_host(comm)
    copies = [c for c in standby.kept(run, home) if c.step >= at_least] if reads else []
    offers = [dict(rank=comm.rank, index=k, **c.claim()) for k, c in enumerate(copies)]
    everyone = [
        offer for text in allgather_text(comm, json.dumps(offers)) for offer in json.loads(text)
    ]
    everyone.sort(key=lambda offer: (-offer["step"], offer["rank"], offer["index"]))
    for step in sorted({offer["step"] for offer in everyone}, reverse=True):
        offers = [offer for offer in everyone if offer["step"] == step]
        if not _are_complete(offers):
            continue
        used = [copies[offer["index"]] for offer in offers if offer["rank"] == comm.rank]
        bad = ", ".join(str(copy.path) for copy in used if not copy.verify())
        damaged = [text for text in allgather_text(comm, bad) if text]
        if damaged:
            print(f"memory {damaged[0]} is not what was kept at step {step}; trying an older state")
            continue
        return _assemble(comm, offers, copies)
    return None


def _are_complete(offers: list[dict[str, Any]]) -> bool:
    """Whether the offers have every piece of the optimizer's state between them."""
    end = 0
    for lo, hi in sorted(tuple(piece) for offer in offers for piece in offer["pieces"]):
        if lo > end:
            return False
        end = max(end, hi)
    return end == offers[0]["count"]


def _assemble(
    comm: "MPI.Intracomm", offers: list[dict[str, Any]], copies: list[standby.Kept]
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
                sources = copies[offer["index"]].vectors
                for vector, source in zip(vectors[1:], sources[1:], strict=True):
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
    header = {**ABSENT, **first["header"]}
    header = {name: header[name] for name in HEADER_FIELDS}
    return Checkpoint(**header, params=params, state=dict(zip(first["names"], state, strict=True)))


def make_room(
    comm: "MPI.Intracomm", run: str, home: Path, unsaved: Checkpoint | None, keep: int
) -> None:
    """Where memory is short, remove what earlier processes of the run have left in it.

    `unsaved` is the state that rank 0 has loaded from there. It is written to disk first, among
    the `keep` newest checkpoints; if that fails, the memory stays as it is.
    """
    removes = first_of_host(comm)
    crowded = removes and standby.is_crowded(run, home)
    if not allreduce_sum(comm, np.array([crowded], np.int64))[0]:
        return
    try:
        with collective_errors(comm):
            if unsaved:
                save_checkpoint(home / "checkpoints", unsaved, keep)
    except UserError as error:
        print(f"warning: {error}; what was kept in memory stays there", flush=True)
        return
    if removes:
        standby.make_room(run, home)
    barrier(comm)


def remove_stale(comm: "MPI.Intracomm", home: Path, ours: Path | None, saved: bool) -> None:
    """Remove what earlier processes of the run have left, and what no run needs any more.

    `ours` is the file in which this rank's host keeps the run from now on. A host that has none
    removes nothing before the state is `saved` to disk.
    """
    if first_of_host(comm) and (saved or ours):
        standby.remove_stale(home, ours)
