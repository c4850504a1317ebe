"""The audit of replicas, and what is kept of them, on real ranks; under mpirun with pytest-mpi."""

from contextlib import nullcontext as nothing
from pathlib import Path

import numpy as np
import pytest
from exchanges import COUNT, RUN, comm, opened, plain_sum, step

from dist_vgg.base.errors import RankError
from dist_vgg.mpi.collectives import barrier
from dist_vgg.recovery.host_memory import HEADER_FIELDS, load_from_memory
from dist_vgg.state import shm
from dist_vgg.state.checksums import GRADIENT, PARAMETERS

pytestmark = pytest.mark.mpi


def test_every_rank_has_the_checksums_of_whole_vectors(kind: str) -> None:
    with opened(kind, state=["momentum"], standby=RUN, audited=True) as route:
        audit = route.audit
        assert audit
        route.audit.note_all()
        for number in range(2):
            step(route, number)
        params, momentum = np.zeros((2, COUNT), np.float32)
        for number in range(2):
            params -= plain_sum(number)
            momentum += plain_sum(number)
        vectors = (params, momentum, plain_sum(1))
        for (name, row), vector in zip(audit.rows.items(), vectors, strict=True):
            assert np.array_equal(row, audit.cells.sums(vector, 0, COUNT)), name


@pytest.mark.parametrize("name", [PARAMETERS, "momentum", GRADIENT])
def test_a_flipped_bit_is_noticed_by_the_rank_that_has_it(kind: str, name: str) -> None:
    with opened(kind, state=["momentum"], standby=RUN, audited=True) as route:
        assert route.audit
        route.audit.note_all()
        step(route, 0)
        barrier(comm)
        _, hi = route.owned[-1]
        victim = comm.size - 1
        if comm.rank == victim:
            vectors = {PARAMETERS: route.params, GRADIENT: route.total, **route.state}
            vectors[name].view(np.uint32)[hi - 1] ^= 1 << 30
        barrier(comm)
        mine = comm.rank == victim
        with pytest.raises(RankError, match=f"{name} on rank {victim}") if mine else nothing():
            route.audit.check_all()
            for piece in route.owned:
                route.audit.check(GRADIENT, route.total, *piece)


def test_a_copy_of_another_nodes_parameters_is_checked(kind: str) -> None:
    with opened(kind, state=["momentum"], standby=RUN, audited=True) as route:
        assert route.audit
        route.audit.note_all()
        step(route, 0)
        barrier(comm)
        # A rank that looks after the copy of a piece that is owned on another node.
        partner = next(iter(route.nodes.partners), None)
        if partner is None:
            return
        lo, _ = route.partition.piece(route.partition.buckets[0], partner)
        route.params.view(np.uint32)[lo] ^= 1
        with pytest.raises(RankError, match=f"parameters on rank {comm.rank}.*bucket 0"):
            route.check()


@pytest.mark.parametrize("later", [0, 1])
def test_what_is_kept_can_be_recalled(kind: str, later: int) -> None:
    header = dict.fromkeys(HEADER_FIELDS, "") | {"folder": str(Path.cwd().resolve())}
    del header["kernels_version"]  # earlier versions had none
    with opened(kind, state=["momentum"], standby=RUN, audited=True) as route:
        audit = route.audit
        assert audit
        route.audit.note_all()
        for number in range(3):
            step(route, number)
            if number < 2:
                audit.commit(header | dict(step=number + 1))
            barrier(comm)
        # The third step has gone over the first, and was never marked.
        state = load_from_memory(comm, RUN, Path.cwd(), later)
        assert (state is not None) == (comm.rank == 0)
        if state:
            assert (state.step, state.kernels_version) == (2, 1)
            expected = plain_sum(0) + plain_sum(1)
            assert np.array_equal(state.params, -expected)
            assert np.array_equal(state.state["momentum"], expected)
        barrier(comm)
        assert load_from_memory(comm, RUN, Path.cwd(), 3) is None
        assert load_from_memory(comm, "another", Path.cwd(), 0) is None
        barrier(comm)
        route.replica.swap()
        if comm.rank == 0:
            route.params.view(np.uint32)[7] ^= 1 << 3
        barrier(comm)
        assert load_from_memory(comm, RUN, Path.cwd(), 0) is None
        barrier(comm)
    barrier(comm)
    assert not list(shm.folder().glob(f"{RUN}-*"))
