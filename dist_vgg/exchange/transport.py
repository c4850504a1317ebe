"""The transport between nodes: pieces of a bucket, each straight to the rank that owns it.

Reduce-scatter and all-gather are direct exchanges here, one non-blocking all-to-all each, since
each rank must add what it gets in the order of the tree. They send as many bytes as a ring does,
each rank (n-1)/n of the vector in either half, which is the least possible (Patarasu and Yuan,
"Bandwidth optimal all-reduce algorithms for clusters of workstations", J. Parallel Distrib.
Comput. 69, 2009); a ring would add in the order in which its ranks stand.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from mpi4py import MPI

from dist_vgg.exchange.nodes import Nodes, agent
from dist_vgg.exchange.partition import Partition, Slice
from dist_vgg.exchange.tree import Block
from dist_vgg.mpi.collectives import LONGEST_NAP, SHORTEST_NAP, wait

# Between two looks no more can travel than the system's buffers hold, and of a short piece most
# time is spent there. At 1 Gbit/s pieces of 2 MB came at 0.4 Gbit/s with naps of up to 1 ms, and at
# 0.9 with 0.1 ms; with pieces of 8 MB there was no difference.
NAP_OF_BYTE = 5e-11  # seconds


class Transport:
    """Exchanges pieces with the ranks of other nodes. Nothing is added or rounded here."""

    def __init__(
        self,
        nodes: Nodes,
        partition: Partition,
        blocks_of: Mapping[tuple[int, ...], Sequence[Block]],
    ) -> None:
        """`blocks_of` has the sums that each node elsewhere will have to give."""
        self._comm, self._partners = nodes.comm, nodes.partners
        self._partition, self._blocks_of = partition, blocks_of
        self.sent_bytes = 0  # to other nodes, by this rank, since the start

    def trade(self, bucket: Slice, sums: Mapping[Block, np.ndarray]) -> dict[Block, np.ndarray]:
        """Give other nodes this node's `sums` of their pieces; get theirs of the own piece."""
        lo, hi = self._partition.piece(bucket, self._comm.rank)
        here = list(sums.values())
        received: dict[Block, np.ndarray] = {}
        requests = []
        # A node has several sums where its shards make no whole branch of the tree.
        for k in range(max(len(here), *map(len, self._blocks_of.values()))):
            sends = {r: self._partition.piece(bucket, r) for r in self._partners if k < len(here)}
            givers = {ranks: bs[k] for ranks, bs in self._blocks_of.items() if k < len(bs)}
            space = np.empty((len(givers), hi - lo), np.float32)
            received |= dict(zip(givers.values(), space, strict=True))
            receives = {
                agent(ranks, self._comm.rank): (row * (hi - lo), (row + 1) * (hi - lo))
                for row, ranks in enumerate(givers)
            }
            requests.append(self._exchange(here[k % len(here)], sends, space, receives))
        for request in requests:
            wait(request, _longest_nap(bucket))
        return received

    def spread(self, bucket: Slice, vector: np.ndarray) -> None:
        """Bring each rank's own piece of a vector to every node."""
        lo, hi = self._partition.piece(bucket, self._comm.rank)
        sends = {agent(ranks, self._comm.rank): (0, hi - lo) for ranks in self._blocks_of}
        receives = {rank: self._partition.piece(bucket, rank) for rank in self._partners}
        # MPI wants what is sent and what is received apart, hence the copy.
        request = self._exchange(vector[lo:hi].copy(), sends, vector, receives)
        wait(request, _longest_nap(bucket))

    def _exchange(
        self,
        source: np.ndarray,
        sends: Mapping[int, Slice],
        target: np.ndarray,
        receives: Mapping[int, Slice],
    ) -> MPI.Request:
        """Send source[lo:hi] to the ranks in `sends`, receive into target[lo:hi] likewise."""

        def spec(places: Mapping[int, Slice]) -> tuple[list[int], list[int]]:
            spans = [places.get(rank, (0, 0)) for rank in range(self._comm.size)]
            return [hi - lo for lo, hi in spans], [lo for lo, _ in spans]

        self.sent_bytes += sum(hi - lo for lo, hi in sends.values()) * source.itemsize
        return self._comm.Ialltoallv(
            [source, spec(sends), MPI.FLOAT], [target, spec(receives), MPI.FLOAT]
        )


def _longest_nap(bucket: Slice) -> float:
    """Seconds to sleep between looks while pieces of a bucket travel."""
    lo, hi = bucket
    return min(max(SHORTEST_NAP, 4 * (hi - lo) * NAP_OF_BYTE), LONGEST_NAP)
