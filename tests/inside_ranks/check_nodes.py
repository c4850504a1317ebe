"""Nodes, real and pretended, as every rank sees them; under mpirun with pytest-mpi."""

import pytest
from exchanges import comm

from dist_vgg.exchange.nodes import Nodes
from dist_vgg.mpi.collectives import allgather_text
from dist_vgg.training.setup import shards_together

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


def test_twice_as_many_images_run_together_where_there_are_several_hosts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert [shards_together(comm, 64, m) for m in (16, 40, 128)] == [4, 1, 0]
    monkeypatch.setattr("dist_vgg.exchange.nodes.neighbours", lambda comm: comm.Split(comm.rank))
    several = [8, 3, 1] if comm.size > 1 else [4, 1, 0]
    assert [shards_together(comm, 64, m) for m in (16, 40, 128)] == several
