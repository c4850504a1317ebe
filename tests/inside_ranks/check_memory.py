"""Memory that a node's ranks share; under mpirun with pytest-mpi."""

import numpy as np
import pytest
from exchanges import comm

from dist_vgg.exchange.memory import GradientMemory, make_replica
from dist_vgg.exchange.nodes import Nodes
from dist_vgg.exchange.partition import Partition
from dist_vgg.mpi.collectives import barrier

pytestmark = pytest.mark.mpi
COUNT = 1001


def test_neighbours_see_what_a_rank_has_written(kind: str) -> None:
    nodes = Nodes(comm, alone=kind == "flat")
    wanted = [1 + rank % 2 for rank in nodes.home]
    memory = GradientMemory(nodes.node, COUNT, wanted)
    for k, vector in enumerate(memory.mine):
        assert vector.ctypes.data % 64 == 0
        vector[:] = 10 * comm.rank + k
    memory.meet()
    assert [len(vectors) for vectors in memory.vectors] == wanted
    for rank, vectors in zip(nodes.home, memory.vectors, strict=True):
        for k, vector in enumerate(vectors):
            assert np.array_equal(vector, np.full(COUNT, 10 * rank + k, np.float32))
    assert (memory.shared_bytes > 0) == (nodes.node.size > 1)
    memory.close()


def test_a_node_has_one_replica(kind: str) -> None:
    nodes = Nodes(comm, alone=kind == "flat")
    partition = Partition(COUNT, comm.size)
    placed = make_replica(nodes, partition, ["momentum"], 0, "", private=kind == "flat")
    if nodes.is_leader:
        placed.replica.params[:] = comm.rank
    barrier(comm)
    assert set(placed.replica.params) == {nodes.home[0]}
    assert placed.replica.path is None  # nothing outlives the processes
    assert (placed.shared_bytes > 0) == (kind == "node")
