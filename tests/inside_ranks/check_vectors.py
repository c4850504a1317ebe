"""Broadcast, gather, scatter and compare, on real ranks; under mpirun with pytest-mpi."""

from contextlib import nullcontext as nothing

import numpy as np
import pytest
from exchanges import COUNT, comm, gradient, opened

from dist_vgg.base.errors import RankError
from dist_vgg.mpi.collectives import barrier

pytestmark = pytest.mark.mpi


def test_broadcast_gather_and_scatter(kind: str) -> None:
    with opened(kind) as route:
        if comm.rank == 0:
            route.params[:] = gradient(0, 0)
        route.vectors.broadcast()
        assert np.array_equal(route.params, gradient(0, 0))
    with opened(kind, state=("momentum", "square")) as route:
        for name, vector in route.state.items():
            for lo, hi in route.owned:
                vector[lo:hi] = gradient(1, len(name))[lo:hi]
            full = route.vectors.gather(vector)
            assert (full is not None) == (comm.rank == 0)
            assert full is None or np.array_equal(full, gradient(1, len(name)))
        for name, vector in route.state.items():
            route.vectors.scatter(gradient(2, len(name)) if comm.rank == 0 else None, vector)
            for lo, hi in route.owned:
                assert np.array_equal(vector[lo:hi], gradient(2, len(name))[lo:hi])


def test_a_replica_that_differs_is_named() -> None:
    with opened("flat") as route:
        route.params[:] = 1
        wrong = comm.size - 1
        if comm.rank == wrong:
            route.params[COUNT // 2] = np.nextafter(np.float32(1), np.float32(2))
        named = pytest.raises(RankError, match=f"replica of rank {wrong} on .* differs")
        with named if comm.rank == wrong and wrong else nothing():
            route.vectors.digest()


def test_a_whole_vector_is_on_every_rank(kind: str) -> None:
    with opened(kind, state=["average"]) as route:
        for lo, hi in route.owned:
            route.state["average"][lo:hi] = gradient(3, 0)[lo:hi]
        whole = route.vectors.whole(route.state["average"])
        assert np.array_equal(whole, gradient(3, 0))
        barrier(comm)  # nobody may give the memory back before all have looked
