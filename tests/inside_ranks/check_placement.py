"""Where vectors lie, by the memory of all ranks' nodes; under mpirun with pytest-mpi."""

import pytest
from exchanges import CONTIGUOUS, COUNT, comm

from dist_vgg.base.errors import UserError
from dist_vgg.exchange import nodes
from dist_vgg.exchange.placement import choose, shards_together, why_no_standby
from dist_vgg.state import shm

pytestmark = pytest.mark.mpi


def test_choose_looks_at_nodes_and_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = comm.size > 1
    assert choose(comm, "auto", COUNT, CONTIGUOUS) == ("node" if shared else "flat")
    assert choose(comm, "flat", COUNT, CONTIGUOUS) == "flat"
    # One rank that is short of memory is enough.
    short = comm.rank == comm.size - 1
    monkeypatch.setattr(shm, "bytes_free", lambda: 1000 if short else 1 << 40)
    assert choose(comm, "auto", COUNT, CONTIGUOUS) == "flat"
    if shared:
        with pytest.raises(UserError, match="--route node needs"):
            choose(comm, "node", COUNT, CONTIGUOUS)


def test_a_standby_needs_memory_on_every_node(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("flat", "node"):
        assert why_no_standby(comm, kind, COUNT, CONTIGUOUS, 3) == ""
        with monkeypatch.context() as patch:
            short = comm.rank == comm.size - 1
            patch.setattr(shm, "bytes_free", lambda short=short: 1000 if short else 1 << 40)
            assert "0 MiB free of" in why_no_standby(comm, kind, COUNT, CONTIGUOUS, 3)


def test_twice_as_many_images_run_together_where_there_are_several_hosts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert [shards_together(comm, 64, m) for m in (16, 40, 128)] == [4, 1, 0]
    monkeypatch.setattr(nodes, "neighbours", lambda comm: comm.Split(comm.rank))
    several = [8, 3, 1] if comm.size > 1 else [4, 1, 0]
    assert [shards_together(comm, 64, m) for m in (16, 40, 128)] == several
