"""The routes on real ranks, against the plain sum along the tree; under mpirun with pytest-mpi."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest
from mpi4py import MPI

from dist_vgg import allreduce
from dist_vgg.allreduce import Route, choose, fold
from dist_vgg.errors import UserError
from dist_vgg.shards import hosted

pytestmark = pytest.mark.mpi
comm = MPI.COMM_WORLD

COUNT = 70_001  # more than one bucket, and no multiple of anything
SHARDS = 11
Homes = list[list[int]]

CONTIGUOUS: Homes = [list(hosted(SHARDS, comm.size, rank)) for rank in range(comm.size)]
ROUND_ROBIN: Homes = [list(range(rank, SHARDS, comm.size)) for rank in range(comm.size)]

# How ranks may lie on nodes: the number of a rank's node.
PLACEMENTS: dict[str, Callable[[int], int] | None] = {
    "flat": None,
    "one node": lambda rank: 0,
    "pairs": lambda rank: rank // 2,
    "cyclic": lambda rank: rank % 2,
    "uneven": lambda rank: int(rank > 0),
}


@pytest.fixture(params=PLACEMENTS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A route, on pretended nodes."""
    placement = PLACEMENTS[request.param]
    if placement is None:
        return "flat"
    monkeypatch.setattr(allreduce, "_neighbours", lambda c: c.Split(placement(c.rank), c.rank))
    return "node"


@contextmanager
def opened(kind: str, homes: Homes = CONTIGUOUS) -> Iterator[Route]:
    route = Route(comm, kind, COUNT, homes)
    yield route
    route.close()


def gradient(step: int, shard: int) -> np.ndarray:
    """Numbers of very different size, so that another order of sums gives other bits."""
    rng = np.random.default_rng([step, shard])
    return (rng.standard_normal(COUNT) * 10.0 ** rng.integers(-4, 4, COUNT)).astype(np.float32)


def plain_sum(step: int) -> np.ndarray:
    sums = {(0, shard): gradient(step, shard) for shard in range(SHARDS)}
    (total,) = fold(sums, SHARDS, lambda left, right: np.add(left, right, out=left)).values()
    return total


@pytest.mark.parametrize("homes", [CONTIGUOUS, ROUND_ROBIN], ids=["contiguous", "round robin"])
def test_steps_leave_every_replica_with_the_plain_result(kind: str, homes: Homes) -> None:
    with opened(kind, homes) as route:
        if route.is_leader:
            route.params[:] = 1
        expected = np.ones(COUNT, np.float32)
        for step in range(3):
            for shard in route.mine:
                route.gradient()[:] = gradient(step, shard)
                route.add(shard)
            route.reduce()
            for lo, hi in route.pieces:
                route.params[lo:hi] -= route.total[lo:hi]
            route.share()
            expected -= plain_sum(step)
            assert np.array_equal(route.params, expected)
        assert route.digest() == allreduce.parameter_digest(expected)


def test_what_is_finished_may_be_sent_while_backward_goes_on(kind: str) -> None:
    cut = allreduce.Cut(COUNT, comm.size)
    # As backward does: slices of any size, from the end to the start, at each rank's own pace.
    edges = sorted({0, *cut.buckets[-1], 5, COUNT // 3, COUNT - 7})
    with opened(kind) as route:
        for step in range(2):
            for shard in route.mine:
                grad = route.gradient()
                grad[:] = np.nan
                for lo, hi in reversed(list(pairwise(edges))):
                    grad[lo:hi] = gradient(step, shard)[lo:hi]
                    route.ready(lo, hi)
                    time.sleep(0.001 * (comm.rank % 3))
                route.add(shard)
            route.wait()
            route.reduce()
            for lo, hi in route.pieces:
                assert np.array_equal(route.total[lo:hi], plain_sum(step)[lo:hi])
            route.share()  # nobody may write the next gradients before all have looked


def test_senders_work_only_between_nodes(kind: str) -> None:
    with opened(kind) as route:
        shards, several = list(route.mine), len(allreduce._nodes(comm, route.node)) > 1
        for shard in shards:
            route.gradient()[:] = gradient(0, shard)
            assert route._sender is None  # no gradient but the last is part of the result
            route.ready(COUNT // 2, COUNT)
            assert (route._sender is not None) == (several and shard == shards[-1])
            route.add(shard)
        route.reduce()


def test_an_error_in_the_sender_is_raised_where_the_step_waits(kind: str) -> None:
    with opened(kind) as route:
        if len(allreduce._nodes(comm, route.node)) == 1:
            return
        route._sum = lambda bucket: 1 // 0  # type: ignore[method-assign]
        for shard in route.mine:
            route.gradient()[:] = 0
            route.add(shard)
        with pytest.raises(ZeroDivisionError):
            route.wait()


def test_norm_has_the_same_bits_everywhere(kind: str) -> None:
    with opened(kind) as route:
        for shard in route.mine:
            route.gradient()[:] = gradient(0, shard)
            route.add(shard)
        route.reduce()
        squares = allreduce.add_up(comm, route.squares())
        alone = Route(MPI.COMM_SELF, "flat", COUNT, [list(range(SHARDS))])
        alone.total[:] = plain_sum(0)
        assert np.array_equal(squares, alone.squares())
        assert squares.sum() == pytest.approx(np.square(plain_sum(0).astype(float)).sum())


def test_broadcast_gather_and_scatter(kind: str) -> None:
    with opened(kind) as route:
        if comm.rank == 0:
            route.params[:] = gradient(0, 0)
        route.broadcast()
        assert np.array_equal(route.params, gradient(0, 0))
        own = np.concatenate([route.params[lo:hi] for lo, hi in route.pieces])
        assert len(own) == route.owned
        full = route.gather(own)
        assert (full is not None) == (comm.rank == 0)
        assert full is None or np.array_equal(full, gradient(0, 0))
        again = np.zeros_like(own)
        route.scatter(full, again)
        assert np.array_equal(again, own)


def test_a_replica_that_differs_is_named() -> None:
    with opened("flat") as route:
        route.params[:] = 1
        wrong = comm.size - 1
        if comm.rank == wrong:
            route.params[COUNT // 2] = np.nextafter(np.float32(1), np.float32(2))
        if wrong:
            with pytest.raises(UserError, match=f"replica of rank {wrong} differs"):
                route.digest()
        else:
            route.digest()


def test_choose_looks_at_nodes_and_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = comm.size > 1
    assert choose(comm, "auto", COUNT, CONTIGUOUS) == ("node" if shared else "flat")
    assert choose(comm, "flat", COUNT, CONTIGUOUS) == "flat"
    # One rank that is short of memory is enough.
    short = comm.rank == comm.size - 1
    monkeypatch.setattr(allreduce, "_shared_memory_free", lambda: 1000 if short else 1 << 40)
    assert choose(comm, "auto", COUNT, CONTIGUOUS) == "flat"
    if shared:
        with pytest.raises(UserError, match="--route node needs"):
            choose(comm, "node", COUNT, CONTIGUOUS)
