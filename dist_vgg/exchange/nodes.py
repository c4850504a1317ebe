"""The nodes of a job: which ranks share memory, and which of them deals with a rank elsewhere."""

from collections.abc import Sequence
from typing import cast

import numpy as np
from mpi4py import MPI

from dist_vgg.mpi.collectives import allreduce_sum, freed


def neighbours(comm: MPI.Intracomm) -> MPI.Intracomm:
    """The ranks that can share memory with this rank."""
    return cast(MPI.Intracomm, comm.Split_type(MPI.COMM_TYPE_SHARED))


def ranks_of_nodes(comm: MPI.Intracomm, node: MPI.Intracomm) -> list[tuple[int, ...]]:
    """The ranks of each node, known to all; `node` has those of this rank's own."""
    leader = np.zeros(comm.size, np.int64)
    mine = np.zeros(node.size, np.int64)
    mine[node.rank] = comm.rank
    leader[comm.rank] = allreduce_sum(node, mine)[0]
    allreduce_sum(comm, leader)
    # By `set`: at its first use np.unique loads masked arrays, a tenth of a rank's start.
    firsts = sorted(set(leader.tolist()))
    return [tuple(np.flatnonzero(leader == first).tolist()) for first in firsts]


def agent(ranks: Sequence[int], other: int) -> int:
    """Which of a node's ranks deals with a rank elsewhere, so that all have equally much to do."""
    return ranks[other % len(ranks)]


def crowded(comm: MPI.Intracomm) -> bool:
    """Whether any host has several ranks."""
    with freed(neighbours(comm)) as host:
        several = np.array([host.size > 1], np.int64)
    return bool(allreduce_sum(comm, several)[0])


def has_several_hosts(comm: MPI.Intracomm) -> bool:
    """Whether there are ranks that share no memory."""
    with freed(neighbours(comm)) as host:
        return host.size < comm.size


class Nodes:
    """The nodes as a route sees them: real ones, or with `alone` one for every rank."""

    def __init__(self, comm: MPI.Intracomm, alone: bool) -> None:
        self.comm = comm
        self.node = cast(MPI.Intracomm, comm.Split(comm.rank)) if alone else neighbours(comm)
        self.is_leader = self.node.rank == 0  # one rank of each node
        leaders = comm.Split(0 if self.is_leader else MPI.UNDEFINED, comm.rank)
        self.leaders = cast(MPI.Intracomm, leaders)  # of all nodes; no communicator elsewhere
        self.are_hosts = not (alone and crowded(comm))  # no two nodes are on one host
        self.all = ranks_of_nodes(comm, self.node)  # in the order of their leaders
        self.home = next(ranks for ranks in self.all if comm.rank in ranks)
        self.elsewhere = [ranks for ranks in self.all if ranks != self.home]
        # The ranks of other nodes that this one deals with; its node's ranks share them out.
        self.partners = [
            rank
            for ranks in self.elsewhere
            for rank in ranks
            if agent(self.home, rank) == comm.rank
        ]

    def close(self) -> None:
        """Free the communicators; each rank must come here, after all else that uses them."""
        for comm in (self.node, self.leaders):
            if comm != MPI.COMM_NULL:
                comm.Free()
