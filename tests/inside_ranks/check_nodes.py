"""Nodes, real and pretended, as every rank sees them; under mpirun with pytest-mpi."""

import pytest
from exchanges import comm

from dist_vgg.exchange.nodes import Nodes
from dist_vgg.mpi.collectives import allgather_text

pytestmark = pytest.mark.mpi


def test_every_rank_is_at_home_on_one_node(kind: str) -> None:
    nodes = Nodes(comm, alone=kind == "flat")
    everyone = sorted(rank for ranks in (nodes.home, *nodes.elsewhere) for rank in ranks)
    assert everyone == list(range(comm.size))
    assert nodes.home[nodes.node.rank] == comm.rank
    assert nodes.is_leader == (comm.rank == nodes.home[0])
    if nodes.is_leader:
        assert nodes.leaders.size == 1 + len(nodes.elsewhere)
    if kind == "flat":
        assert nodes.home == (comm.rank,)


def test_each_node_has_one_rank_for_every_rank_elsewhere(kind: str) -> None:
    nodes = Nodes(comm, alone=kind == "flat")
    texts = allgather_text(comm, ",".join(map(str, nodes.partners)))
    partners = [[int(rank) for rank in text.split(",") if rank] for text in texts]
    for ranks in (nodes.home, *nodes.elsewhere):
        others = sorted(rank for mine in ranks for rank in partners[mine])
        assert others == [rank for rank in range(comm.size) if rank not in ranks]
