"""Pieces that travel between nodes; under mpirun with pytest-mpi."""

import numpy as np
import pytest
from exchanges import COUNT, comm, gradient

from dist_vgg.exchange.nodes import Nodes
from dist_vgg.exchange.partition import Partition
from dist_vgg.exchange.transport import Transport
from dist_vgg.exchange.tree import Block

pytestmark = pytest.mark.mpi


def test_each_rank_gets_the_sums_of_its_own_piece(kind: str) -> None:
    nodes = Nodes(comm, alone=kind == "flat")
    if not nodes.elsewhere:
        return
    partition = Partition(COUNT, comm.size)

    def blocks(ranks: tuple[int, ...]) -> list[Block]:
        """Some nodes have more sums than others."""
        return [(0, 2 * ranks[0] + k) for k in range(1 + ranks[0] % 2)]

    transport = Transport(nodes, partition, {ranks: blocks(ranks) for ranks in nodes.elsewhere})
    for bucket in partition.buckets:
        lo, hi = partition.piece(bucket, comm.rank)
        mine = {(level, i): gradient(level, i) for level, i in blocks(nodes.home)}
        received = transport.trade(bucket, mine)
        assert sorted(received) == sorted(b for ranks in nodes.elsewhere for b in blocks(ranks))
        for (level, i), piece in received.items():
            assert np.array_equal(piece, gradient(level, i)[lo:hi])


def test_each_piece_comes_to_every_node(kind: str) -> None:
    nodes = Nodes(comm, alone=True)
    if not nodes.elsewhere:
        return
    partition = Partition(COUNT, comm.size)
    transport = Transport(nodes, partition, {ranks: [] for ranks in nodes.elsewhere})
    vector = np.zeros(COUNT, np.float32)
    for bucket in partition.buckets:
        lo, hi = partition.piece(bucket, comm.rank)
        vector[lo:hi] = gradient(0, 0)[lo:hi]
        transport.spread(bucket, vector)
    assert np.array_equal(vector, gradient(0, 0))
