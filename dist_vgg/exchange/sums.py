"""Sums of gradients along the tree: over a node's ranks in their memory, then over the nodes."""

from collections.abc import Sequence

from dist_vgg.exchange.memory import GradientMemory
from dist_vgg.exchange.nodes import Nodes
from dist_vgg.exchange.partition import Partition, Slice
from dist_vgg.exchange.transport import Transport
from dist_vgg.exchange.tree import LocalTree, first, fold, remaining, sum_along_tree


class GradientSums:
    """Where a node's sums lie, which sums other nodes have, and how a bucket becomes one sum.

    `total` is where the sum then lies; `transport` is None where there is only one node.
    """

    def __init__(
        self,
        nodes: Nodes,
        partition: Partition,
        memory: GradientMemory,
        trees: Sequence[LocalTree],
        shards: int,
    ) -> None:
        """`trees` are those of all ranks as they are after a step."""
        self._nodes, self._partition, self._shards = nodes, partition, shards
        # The node's sums when each of its ranks has added its own micro-batches ...
        self._parts = {
            block: memory.vectors[local][vector]
            for local, rank in enumerate(nodes.home)
            for block, vector in trees[rank].blocks.items()
        }
        # ... and what remains of them, and where, when the node has added those.
        self._sums = fold(dict(self._parts), shards, lambda left, right: None)
        self.total = self._sums[first(self._sums)]
        blocks_of = {
            ranks: remaining((b for rank in ranks for b in trees[rank].blocks), shards)
            for ranks in nodes.elsewhere
        }
        self.transport = Transport(nodes, partition, blocks_of) if blocks_of else None

    def sum(self, bucket: Slice) -> None:
        """Sum a bucket: over the node's ranks each rank its share, then over the nodes."""
        rank = self._nodes.comm.rank
        lo, hi = self._partition.piece(bucket, rank)
        for owner in (rank, *self._nodes.partners):
            piece = slice(*self._partition.piece(bucket, owner))
            sum_along_tree({b: v[piece] for b, v in self._parts.items()}, self._shards)
        if self.transport:
            sums = {b: v[lo:hi] for b, v in self._sums.items()}
            sums |= self.transport.trade(bucket, self._sums)
            self.total[lo:hi] = sum_along_tree(sums, self._shards)
