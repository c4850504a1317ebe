"""Where vectors lie, by the memory of all ranks' nodes; under mpirun with pytest-mpi."""

import pytest
from exchanges import CONTIGUOUS, COUNT, comm

from dist_vgg.base.errors import UserError
from dist_vgg.exchange.placement import choose, why_no_standby
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
