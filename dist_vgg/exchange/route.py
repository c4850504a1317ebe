"""The routes: an allreduce in its two halves, with each rank's update between them.

    reduce-scatter gradients  ->  update own slices  ->  all-gather parameters

A rank updates only the slices that it owns, and keeps optimizer state only for those: stage 1 of
ZeRO (Rajbhandari et al., "ZeRO: memory optimizations toward training trillion parameter models",
SC'20). Both halves together send what one allreduce sends (Thakur et al., "Optimization of
collective communication operations in MPICH", IJHPCA 19, 2005).
"""

from collections.abc import Sequence

import numpy as np
from mpi4py import MPI

from dist_vgg.exchange.audit import ReplicaAudit
from dist_vgg.exchange.factors import Factors, Products, TakeFactors, divided
from dist_vgg.exchange.memory import GradientMemory, make_replica
from dist_vgg.exchange.nodes import Nodes
from dist_vgg.exchange.overlap import Overlap
from dist_vgg.exchange.partition import Slice
from dist_vgg.exchange.sums import GradientSums
from dist_vgg.exchange.tree import branches, plan
from dist_vgg.exchange.vectors import Vectors
from dist_vgg.mpi.collectives import barrier
from dist_vgg.state.checksums import GRADIENT, Cells


class Route:
    """The exchange of gradients and parameters, see protocol.py for what a step calls.

    `flat` gives each rank a replica of its own, and all else travels by MPI. `node` keeps one
    replica and all gradients of a node in shared memory, where nothing is sent, and is `flat`
    between nodes. It is one algorithm: `flat` is `node` with nodes of one rank.

    Guarantees that `total` has the bits of the sum along the tree over the shards (see tree.py):
    a route decides where memory lies and what crosses between processes, never what is added to
    what. Between nodes both halves hide behind the computation: a thread sums and sends each bucket
    of the gradient as soon as backward has finished it, and brings updated parameters while the
    next step's forward is at work on the layers before them.
    """

    def __init__(
        self,
        comm: MPI.Intracomm,
        count: int,
        shards_of_rank: Sequence[Sequence[int]],
        state: Sequence[str] = (),
        standby: str = "",
        cells: Cells | None = None,
        *,
        kind: str = "flat",
        together: int = 1,
        products: Products | None = None,
    ) -> None:
        """`kind` is "flat" or "node", see `placement.choose`; the rest as in `MakeExchange`.

        A branch has at most the shards that run `together`. The factors of `products` may travel.
        """
        self.comm, self.kind = comm, kind
        self.shards = sum(map(len, shards_of_rank))
        self.local_shards = shards_of_rank[comm.rank]
        self.nodes = nodes = Nodes(comm, alone=kind == "flat")
        self.partition = cut = divided(count, nodes, products, self.shards)
        self.owned, self.answers = cut.owned(comm.rank), cut.answers(comm.rank)
        self.is_leader = nodes.is_leader
        self.branches = branches(self.local_shards, together)
        trees = [plan(branches(mine, together), self.shards) for mine in shards_of_rank]
        vectors = [trees[r].vectors for r in nodes.home]
        self.memory = GradientMemory(nodes.node, count, vectors, self.partition.tail)
        placed = make_replica(nodes, cut, state, len(cells or ()), standby, kind == "flat")
        self.replica, self.no_standby = placed.replica, placed.no_standby
        self.shared_bytes = self.memory.shared_bytes + placed.shared_bytes
        self._factors: Factors | None = None
        self.factors: TakeFactors | None = None
        if products and self.partition.tail < count:
            self._factors = Factors(products, nodes, self.partition, shards_of_rank)
            self.factors = self._take_factors
            self.shared_bytes += self._factors.memory.shared_bytes
        self._sums = GradientSums(nodes, self.partition, self.memory, trees, self.shards)
        self.total, self._transport = self._sums.total, self._sums.transport
        self._tree = trees[comm.rank]
        self._tree.clear()
        self._taken = 0  # branches, in this step
        self._gradients = Overlap(cut.buckets[::-1], self._finish)
        self._parameters = Overlap([b for b in cut.buckets if not cut.everywhere(b)], self._spread)
        self._overlaps = self._transport is not None and MPI.Query_thread() >= MPI.THREAD_SERIALIZED
        meet = self.memory.meet
        self.audit = ReplicaAudit(cells, self.replica, nodes, cut, meet) if cells else None
        self.vectors = Vectors(nodes, cut, self.replica, self.total, self.audit, meet)

    @property
    def params(self) -> np.ndarray:
        """This node's parameters: the last step's, or from `swap` on those being written."""
        return self.replica.params

    @property
    def state(self) -> dict[str, np.ndarray]:
        """The optimizer's vectors by name; whole only where this node's ranks own all."""
        return self.replica.state

    @property
    def sent_bytes(self) -> int:
        """What this rank has sent to other nodes in all steps."""
        parts = (self._transport, self._factors)
        return sum(part.sent_bytes for part in parts if part)

    @property
    def hidden_seconds(self) -> float:
        """In which gradients and parameters travelled while this rank computed, in all steps."""
        return self._gradients.hidden_seconds + self._parameters.hidden_seconds

    def gradient(self) -> np.ndarray:
        """The flat vector that the next micro-batch's gradient is to be written to."""
        if self._factors:
            self._factors.clear(self.branches[self._taken])
        return self.memory.mine[self._tree.next()]

    def _take_factors(self, counts: Sequence[int], lo: int, x: np.ndarray, dy: np.ndarray) -> None:
        """Take a product's factors in the place of the gradient that they are of."""
        if self._factors:
            gradient = self.memory.mine[self._tree.next()]
            self._factors.put(gradient, self.branches[self._taken], counts, lo, x, dy)

    def ready(self, lo: int, hi: int) -> None:
        """Take note that `gradient` is finished from `lo` on: other nodes can have the last."""
        self._parameters.end()  # only one thread may call MPI
        if self._factors and lo > self._factors.lo:
            return  # factors travel together
        if self._overlaps and self._at_last:
            self._gradients.finished(lo)

    def add(self, *branch: int) -> None:
        """Take the vector given out last as the gradient of these shards' micro-batches."""
        self.ready(0, self.partition.count)
        if self._at_last:
            self._tree.leave(branch)
        else:
            mine = [vector[: self.partition.tail] for vector in self.memory.mine]
            self._tree.add(branch, lambda a, b: np.add(mine[a], mine[b], out=mine[a]))
        self._taken += 1

    @property
    def _at_last(self) -> bool:
        """Whether the step's last branch of this rank is being worked on."""
        return self._taken == len(self.branches) - 1

    def wait(self) -> None:
        """Wait for the slowest rank's gradients, and for what is still being sent."""
        if self._gradients.is_going_on:
            self._gradients.wait_for(self.partition.count)
        else:
            barrier(self.comm)

    def reduce_scatter(self) -> None:
        """Sum the gradients of all shards, each rank in the slices that it owns."""
        self._tree.clear()
        self._taken = 0
        if self._gradients.is_going_on:
            self._gradients.end()
        else:
            self.memory.meet()
            for bucket in reversed(self.partition.buckets):
                self._sum(bucket)

    def _finish(self, bucket: Slice) -> None:
        """Sum a bucket while backward is still at work on those before it."""
        self.memory.meet()
        self._sum(bucket)

    def _sum(self, bucket: Slice) -> None:
        """Sum a bucket, in the slice that this rank owns; the factors are here since the last."""
        if bucket[0] < self.partition.tail:
            self._sums.sum(bucket)
        elif self._factors:
            self._factors.sum(bucket, self.total)
        if self.audit:
            self.audit.note(GRADIENT, self.total, *self.partition.piece(bucket, self.comm.rank))

    def check(self) -> None:
        """Check this node's copies of what ranks elsewhere own; its ranks share the work.

        The slices that this rank owns are checked as they are updated.
        """
        if self.audit:
            self.audit.check_copies()

    def all_gather(self, follows: bool = False) -> bool:
        """Bring the slices that each rank has updated to every replica, and compare checksums.

        Where another step `follows` they may still be on their way; returns whether all are here.
        """
        self.memory.meet()
        if self.audit:
            self.audit.share()
        if follows and self._overlaps:
            self._parameters.begin(0)
        elif self._transport:
            for bucket in self._parameters.buckets:
                self._spread(bucket)
            self.check()
        return not self._parameters.is_going_on

    def _spread(self, bucket: Slice) -> None:
        """Bring a bucket's updated slices to every replica, and have the node's ranks see them."""
        if self._transport:
            self._transport.spread(bucket, self.params)
            self.memory.meet()

    def need(self, lo: int, hi: int) -> None:
        """Have params[lo:hi] whole before this returns."""
        self._parameters.wait_for(hi)

    def close(self, keep: bool = False) -> None:
        """Give shared memory back; the arrays must not be used any more.

        With `keep`, what was to outlive the processes does so.
        """
        self._parameters.end()
        if not keep:
            self.replica.remove()
        elif self.is_leader:
            self.replica.keep()
        if self._factors:
            self._factors.memory.close()
        self.memory.close()
        self.nodes.close()
