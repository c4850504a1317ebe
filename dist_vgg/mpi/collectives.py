"""Calls that all ranks make together: to wait, to sum, to share texts, and to fail as one.

MPI's blocking calls spin. With more ranks than cores, a waiting rank would take the core of one
that computes. So every wait in this project is a non-blocking call that is polled here.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from dist_vgg.base.errors import UserError
from dist_vgg.base.observe import Event

if TYPE_CHECKING:
    from mpi4py import MPI

SHORTEST_NAP, LONGEST_NAP = 50e-6, 1e-3  # seconds

waits = Event()  # with True as this rank begins to wait for others, with False as it goes on


@contextmanager
def waiting() -> Iterator[None]:
    """Announce that the block waits for other ranks."""
    waits(True)
    try:
        yield
    finally:
        waits(False)


@contextmanager
def freed(comm: "MPI.Intracomm") -> Iterator["MPI.Intracomm"]:
    """Free a communicator at the end of the block: MPI has a limited number of them."""
    try:
        yield comm
    finally:
        comm.Free()


def wait(request: "MPI.Request", longest_nap: float = LONGEST_NAP) -> None:
    """Wait for a non-blocking MPI call, sleeping between looks; from 50 us up to 1 ms, or less."""
    nap = SHORTEST_NAP
    with waiting():
        while not request.Test():
            time.sleep(nap)
            nap = min(2 * nap, longest_nap)


def barrier(comm: "MPI.Intracomm") -> None:
    """Wait until every rank is here."""
    wait(comm.Ibarrier())


def allreduce_sum(comm: "MPI.Intracomm", values: np.ndarray) -> np.ndarray:
    """Sum an array over the ranks, in place.

    MPI may add in any order. Where bits matter, each entry is a whole number or is non-zero on
    one rank only, so that the order changes none.
    """
    from mpi4py import MPI

    wait(comm.Iallreduce(MPI.IN_PLACE, values, op=MPI.SUM))
    return values


def allreduce_max(comm: "MPI.Intracomm", values: np.ndarray) -> np.ndarray:
    """The largest of each entry over the ranks, in place."""
    from mpi4py import MPI

    wait(comm.Iallreduce(MPI.IN_PLACE, values, op=MPI.MAX))
    return values


def allgather_text(comm: "MPI.Intracomm", text: str) -> list[str]:
    """Every rank's text, on every rank, in order of rank."""
    data = np.frombuffer(text.encode(errors="surrogateescape"), np.uint8)
    sizes = np.zeros(comm.size, np.int64)
    sizes[comm.rank] = len(data)
    allreduce_sum(comm, sizes)
    everything = np.empty(int(sizes.sum()), np.uint8)
    wait(comm.Iallgatherv(data, [everything, sizes.tolist()]))
    ends = np.cumsum(sizes)
    return [
        everything[end - n : end].tobytes().decode(errors="surrogateescape")
        for end, n in zip(ends, sizes, strict=True)
    ]


def allgather_hosts(comm: "MPI.Intracomm") -> list[str]:
    """Every rank's host, on every rank."""
    from mpi4py import MPI

    return allgather_text(comm, MPI.Get_processor_name())


def bcast_text(comm: "MPI.Intracomm", text: str) -> str:
    """Rank 0's text, on every rank."""
    return allgather_text(comm, text if comm.rank == 0 else "")[0]


@contextmanager
def collective_errors(comm: "MPI.Intracomm") -> Iterator[None]:
    """Turn a UserError on any rank into the same UserError on every rank.

    An error of the operating system about a file counts, too. If only some hosts make the
    mistake, the message names them. All ranks must enter and leave the block, and nothing inside
    it may wait for another rank.
    """
    mistake = ""
    try:
        yield
    except UserError as error:
        mistake = str(error)
    except OSError as error:
        if error.filename is None:
            raise
        mistake = f"can't use {error.filename}: {error.strerror}"
    mistakes = allgather_text(comm, mistake)
    first = next(filter(None, mistakes), "")
    if first:
        hosts = allgather_hosts(comm)
        theirs = [host for host, text in zip(hosts, mistakes, strict=True) if text == first]
        some = set(theirs) != set(hosts)
        raise UserError(f"on {', '.join(dict.fromkeys(theirs))}: {first}" if some else first)


def require_same(comm: "MPI.Intracomm", facts: Mapping[str, object], mend: str) -> None:
    """Raise UserError on every rank where ranks differ in a fact: the first such, both values.

    Otherwise ranks that were started unlike each other would train together without a word, since
    all get the same sums. `mend` says what the user can do.
    """
    from mpi4py import MPI

    about = [MPI.Get_processor_name(), {name: str(value) for name, value in facts.items()}]
    everyone = []
    for text in allgather_text(comm, json.dumps(about)):
        try:
            host, values = json.loads(text)
        except ValueError:  # an earlier version of this program, which compares nothing
            host, values = "another host", {}
        everyone.append((host, values))
    for name in dict.fromkeys(name for _, values in everyone for name in values):
        found = [values.get(name, "not given") for _, values in everyone]
        other = next((rank for rank, value in enumerate(found) if value != found[0]), 0)
        if other:
            each = (f"{found[r]} for rank {r} on {everyone[r][0]}" for r in (0, other))
            raise UserError(f"ranks differ in {name}: {', '.join(each)}; {mend}")
