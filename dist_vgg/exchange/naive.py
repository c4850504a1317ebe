"""The naive exchange: every rank gets every gradient, and adds them all up itself.

It is here to be compared with the routes, and as the shortest example of the protocol. It has
the same bits as they have, and pays for its shortness: each rank receives and holds a vector for
every shard, where a route brings it less than two (see transport.py); every rank repeats all
additions; and nothing overlaps with the computation.
"""

from collections.abc import Sequence

import numpy as np
from mpi4py import MPI

from dist_vgg.exchange.audit import ReplicaAudit
from dist_vgg.exchange.factors import TakeFactors
from dist_vgg.exchange.memory import aligned
from dist_vgg.exchange.nodes import Nodes
from dist_vgg.exchange.partition import Partition
from dist_vgg.exchange.tree import branches, sum_along_tree
from dist_vgg.exchange.vectors import Vectors
from dist_vgg.mpi.collectives import barrier, wait
from dist_vgg.state import replica
from dist_vgg.state.checksums import Cells
from dist_vgg.state.replica import Layout


class Naive:
    """Broadcast all gradients, add them all. Guarantees the sum along the tree over the shards.

    Nothing is audited, and no replica outlives its process.
    """

    kind, is_leader, shared_bytes = "naive", True, 0
    hidden_seconds = 0.0

    def __init__(
        self,
        comm: MPI.Intracomm,
        count: int,
        shards_of_rank: Sequence[Sequence[int]],
        state: Sequence[str] = (),
        standby: str = "",
        cells: Cells | None = None,
    ) -> None:
        self.comm = comm
        self.local_shards = shards_of_rank[comm.rank]
        self.branches = branches(self.local_shards)
        self.partition = Partition(count, comm.size)
        self.owned = self.answers = self.partition.owned(comm.rank)
        self.factors: TakeFactors | None = None
        self.sent_bytes = 0
        self.replica = replica.private(Layout(count, 1 + len(state), 1, 0), state)
        self.audit: ReplicaAudit | None = None
        self.no_standby = "the exchange is naive" if standby else ""
        self._host = {shard: rank for rank, mine in enumerate(shards_of_rank) for shard in mine}
        self._gradients = {shard: aligned(count) for shard in sorted(self._host)}
        self._taken = 0  # micro-batches, in this step
        self.total = self._gradients[0]  # where `sum_along_tree` leaves the sum
        self._nodes = Nodes(comm, alone=True)
        self.vectors = Vectors(self._nodes, self.partition, self.replica, self.total)

    @property
    def params(self) -> np.ndarray:
        return self.replica.params

    @property
    def state(self) -> dict[str, np.ndarray]:
        return self.replica.state

    def gradient(self) -> np.ndarray:
        return self._gradients[self.local_shards[self._taken]]

    def ready(self, lo: int, hi: int) -> None:
        """Nothing is sent before all of backward is over."""

    def add(self, *branch: int) -> None:
        self._taken += 1

    def wait(self) -> None:
        barrier(self.comm)

    def reduce_scatter(self) -> None:
        self._taken = 0
        for shard, gradient in self._gradients.items():
            wait(self.comm.Ibcast(gradient, root=self._host[shard]))
        self._sent(len(self.local_shards) * self.partition.count)
        blocks = {(0, shard): gradient for shard, gradient in self._gradients.items()}
        sum_along_tree(blocks, len(blocks))

    def check(self) -> None:
        """Nothing is audited."""

    def all_gather(self, follows: bool = False) -> bool:
        for rank in range(self.comm.size):
            for lo, hi in self.partition.owned(rank):
                wait(self.comm.Ibcast(self.params[lo:hi], root=rank))
        self._sent(sum(hi - lo for lo, hi in self.owned))
        return True

    def _sent(self, numbers: int) -> None:
        """Count so many numbers as sent to every other rank."""
        self.sent_bytes += 4 * numbers * (self.comm.size - 1)

    def need(self, lo: int, hi: int) -> None:
        """All parameters are here since `all_gather`."""

    def close(self, keep: bool = False) -> None:
        """Nothing is shared but the communicators."""
        self._nodes.close()
