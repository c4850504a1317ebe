"""Whole vectors: what moves them outside the step, at a start, a checkpoint or an epoch's end."""

from collections.abc import Callable

import numpy as np

from dist_vgg.base.errors import RankError
from dist_vgg.exchange.audit import ReplicaAudit
from dist_vgg.exchange.nodes import Nodes
from dist_vgg.exchange.partition import Partition
from dist_vgg.mpi.collectives import allgather_text, barrier, wait
from dist_vgg.mpi.host import where_is
from dist_vgg.state.checksums import PARAMETERS, parameter_digest
from dist_vgg.state.replica import Replica


class Vectors:
    """Broadcast, gather, scatter and compare; every method is collective.

    All go bucket by bucket, so that MPI's own buffers stay small.
    """

    def __init__(
        self,
        nodes: Nodes,
        partition: Partition,
        replica: Replica,
        total: np.ndarray,
        audit: ReplicaAudit | None = None,
        meet: Callable[[], None] = lambda: None,
    ) -> None:
        """`meet` waits for the node's ranks and has each see what the others have written.

        `total` is space for a whole vector, which the node's ranks share.
        """
        self._comm, self._nodes, self._partition = nodes.comm, nodes, partition
        self._replica, self._total, self._audit, self._meet = replica, total, audit, meet
        self._answers = partition.answers(self._comm.rank)

    def broadcast(self) -> None:
        """Bring rank 0's parameters to every replica."""
        self._to_all_nodes(self._replica.params)

    def fill(self, write: Callable[[int, int], object]) -> None:
        """Have the ranks of rank 0's replica write it together, and bring it to every replica.

        Each calls `write(part, parts)`.
        """
        home = self._nodes.home
        if home[0] == 0:
            write(home.index(self._comm.rank), len(home))
            self._meet()
        self.broadcast()

    def gather(self, vector: np.ndarray) -> np.ndarray | None:
        """A whole vector on rank 0, of which each rank has the slices that it owns."""
        if not self._nodes.elsewhere:
            self._meet()
            return vector if self._comm.rank == 0 else None
        count = self._partition.count
        full = np.empty(count, vector.dtype) if self._comm.rank == 0 else None
        for bucket, (lo, hi) in zip(self._partition.buckets, self._answers, strict=True):
            sizes = self._partition.sizes(bucket)
            target = None if full is None else [full[slice(*bucket)], sizes]
            wait(self._comm.Igatherv(vector[lo:hi], target, root=0))
        return full

    def scatter(self, full: np.ndarray | None, vector: np.ndarray) -> None:
        """The inverse of `gather`: rank 0's whole vector into the slices that each rank owns."""
        if not self._nodes.elsewhere:
            if full is not None:
                vector[:] = full
            self._meet()
            return
        for bucket, (lo, hi) in zip(self._partition.buckets, self._answers, strict=True):
            sizes = self._partition.sizes(bucket)
            source = None if full is None else [full[slice(*bucket)], sizes]
            wait(self._comm.Iscatterv(source, vector[lo:hi], root=0))
        if self._partition.nodes:
            self._meet()
            self._to_all_nodes(vector, self._partition.tail)

    def whole(self, vector: np.ndarray) -> np.ndarray:
        """A whole vector on every rank, as `gather`; it lies in `total`, until the next step."""
        full = self.gather(vector)
        if full is not None:
            self._total[:] = full
        self._to_all_nodes(self._total)
        return self._total

    def digest(self) -> str:
        """SHA-256 of the parameters, after comparing all replicas.

        Raises RankError on a rank whose replica is not what it was, or differs from rank 0's.
        """
        mine = parameter_digest(self._replica.params) if self._nodes.is_leader else ""
        digests = allgather_text(self._comm, mine)
        if len(set(filter(None, digests))) > 1:
            if self._nodes.is_leader and self._audit:
                for bucket in self._partition.buckets:
                    self._audit.check(PARAMETERS, self._replica.params, *bucket)
            barrier(self._comm)  # a rank that has found what is wrong does not come here
        if mine and mine != digests[0]:
            raise RankError(
                f"the replica of {where_is(self._comm)} differs from that of rank 0 (faulty "
                "memory, or machines that compute differently); go on from the last good state "
                "with --resume",
                RankError.CORRUPT,
            )
        return digests[0]

    def _to_all_nodes(self, vector: np.ndarray, start: int = 0) -> None:
        """Bring the vector of rank 0's node to all others, from the bucket at `start` on."""
        if self._nodes.is_leader:
            for lo, hi in self._partition.buckets:
                if lo < start:
                    continue
                wait(self._nodes.leaders.Ibcast(vector[lo:hi], root=0))
        self._meet()
