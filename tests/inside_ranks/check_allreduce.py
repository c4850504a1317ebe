"""The routes on real ranks, against the plain sum along the tree; under mpirun with pytest-mpi."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextlib import nullcontext as nothing
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

from dist_vgg.base.errors import RankError, UserError
from dist_vgg.data.shards import hosted
from dist_vgg.exchange import route as routes
from dist_vgg.exchange.route import Route, choose, fold
from dist_vgg.mpi.collectives import barrier
from dist_vgg.recovery.host_memory import HEADER_FIELDS, load_from_memory
from dist_vgg.state import replica
from dist_vgg.state.checksums import GRADIENT, PARAMETERS, Audit, Cells, parameter_digest

pytestmark = pytest.mark.mpi
comm = MPI.COMM_WORLD

COUNT = 70_001  # more than one bucket, and no multiple of anything
SHARDS = 11
RUN = f"tested-{os.getppid()}"  # which is mpirun's: other tests may be running
Homes = list[list[int]]
CELLS = Cells(COUNT, routes.Partition(COUNT, 1).grain, [1001, 40_000])

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
    monkeypatch.setattr(routes, "_neighbours", lambda c: c.Split(placement(c.rank), c.rank))
    return "node"


@contextmanager
def opened(
    kind: str, shards_of_rank: Homes = CONTIGUOUS, state: Sequence[str] = (), run: str = ""
) -> Iterator[Route]:
    route = Route(comm, kind, COUNT, shards_of_rank, state, run, len(CELLS))
    yield route
    route.close()


@cache
def gradient(step: int, shard: int) -> np.ndarray:
    """Numbers of very different size, so that another order of sums gives other bits."""
    rng = np.random.default_rng([step, shard])
    return (rng.standard_normal(COUNT) * 10.0 ** rng.integers(-4, 4, COUNT)).astype(np.float32)


@cache
def plain_sum(step: int) -> np.ndarray:
    sums = {(0, shard): gradient(step, shard).copy() for shard in range(SHARDS)}
    (total,) = fold(sums, SHARDS, lambda left, right: np.add(left, right, out=left)).values()
    return total


@pytest.mark.parametrize(
    "shards_of_rank", (CONTIGUOUS, ROUND_ROBIN), ids=["contiguous", "round robin"]
)
def test_steps_leave_every_replica_with_the_plain_result(kind: str, shards_of_rank: Homes) -> None:
    with opened(kind, shards_of_rank) as route:
        if route.is_leader:
            route.params[:] = 1
        expected = np.ones(COUNT, np.float32)
        for step in range(3):
            for shard in route.local_shards:
                route.gradient()[:] = gradient(step, shard)
                route.add(shard)
            route.reduce_scatter()
            for lo, hi in route.owned:
                route.params[lo:hi] -= route.total[lo:hi]
            route.all_gather()
            expected -= plain_sum(step)
            assert np.array_equal(route.params, expected)
        assert route.digest() == parameter_digest(expected)


def test_what_is_finished_may_be_sent_while_backward_goes_on(kind: str) -> None:
    cut = routes.Partition(COUNT, comm.size)
    # As backward does: slices of any size, from the end to the start, at each rank's own pace.
    edges = sorted({0, *cut.buckets[-1], 5, COUNT // 3, COUNT - 7})
    with opened(kind) as route:
        for step in range(2):
            for shard in route.local_shards:
                grad = route.gradient()
                grad[:] = np.nan
                for lo, hi in reversed(list(pairwise(edges))):
                    grad[lo:hi] = gradient(step, shard)[lo:hi]
                    route.ready(lo, hi)
                    time.sleep(0.001 * (comm.rank % 3))
                route.add(shard)
            route.wait()
            route.reduce_scatter()
            for lo, hi in route.owned:
                assert np.array_equal(route.total[lo:hi], plain_sum(step)[lo:hi])
            route.all_gather()  # nobody may write the next gradients before all have looked


def test_senders_work_only_between_nodes(kind: str) -> None:
    with opened(kind) as route:
        shards, several = list(route.local_shards), len(routes._nodes(comm, route.node)) > 1
        for shard in shards:
            route.gradient()[:] = gradient(0, shard)
            assert route._overlap is None  # no gradient but the last is part of the result
            route.ready(COUNT // 2, COUNT)
            assert (route._overlap is not None) == (several and shard == shards[-1])
            route.add(shard)
        route.reduce_scatter()


def test_an_error_in_the_sender_is_raised_where_the_step_waits(kind: str) -> None:
    with opened(kind) as route:
        if len(routes._nodes(comm, route.node)) == 1:
            return
        route._sum = lambda bucket: 1 // 0  # type: ignore[method-assign]
        for shard in route.local_shards:
            route.gradient()[:] = 0
            route.add(shard)
        with pytest.raises(ZeroDivisionError):
            route.wait()


def test_norm_has_the_same_bits_everywhere(kind: str) -> None:
    with opened(kind) as route:
        for shard in route.local_shards:
            route.gradient()[:] = gradient(0, shard)
            route.add(shard)
        route.reduce_scatter()
        squares = routes.allreduce_sum(comm, route.squares())
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
    with opened(kind, state=("momentum", "square")) as route:
        for name, vector in route.state.items():
            for lo, hi in route.owned:
                vector[lo:hi] = gradient(1, len(name))[lo:hi]
            full = route.gather(vector)
            assert (full is not None) == (comm.rank == 0)
            assert full is None or np.array_equal(full, gradient(1, len(name)))
        for name, vector in route.state.items():
            route.scatter(gradient(2, len(name)) if comm.rank == 0 else None, vector)
            for lo, hi in route.owned:
                assert np.array_equal(vector[lo:hi], gradient(2, len(name))[lo:hi])


def audited(route: Route) -> Audit:
    names, bucket = (PARAMETERS, "momentum", GRADIENT), route.partition.buckets[0][1]
    where = f"rank {comm.rank} on host"
    route.audit = Audit(CELLS, names, route.replica.tables, where, bucket)
    return route.audit


def step(route: Route, number: int) -> None:
    """A step of gradient descent with its audit, as the trainer takes it."""
    assert route.audit
    for shard in route.local_shards:
        route.gradient()[:] = gradient(number, shard)
        route.add(shard)
    route.reduce_scatter()
    route.check()
    barrier(comm)
    old, momentum = route.params, route.state["momentum"]
    route.replica.swap()
    for lo, hi in route.owned:
        route.audit.check(GRADIENT, route.total, lo, hi)
        route.params[lo:hi] = old[lo:hi] - route.total[lo:hi]
        route.state["momentum"][lo:hi] = momentum[lo:hi] + route.total[lo:hi]
        route.audit.note(PARAMETERS, route.params, lo, hi)
        route.audit.note("momentum", route.state["momentum"], lo, hi)
    route.all_gather()


def test_every_rank_has_the_checksums_of_whole_vectors(kind: str) -> None:
    with opened(kind, state=["momentum"], run=RUN) as route:
        audit = audited(route)
        route.audit_all()
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
    with opened(kind, state=["momentum"], run=RUN) as route:
        audited(route)
        route.audit_all()
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
            route.check()
            for piece in route.owned:
                assert route.audit
                route.audit.check(GRADIENT, route.total, *piece)


def test_a_copy_of_another_nodes_parameters_is_checked(kind: str) -> None:
    with opened(kind, state=["momentum"], run=RUN) as route:
        audited(route)
        route.audit_all()
        step(route, 0)
        barrier(comm)
        # A rank that looks after the copy of a piece that is owned on another node.
        partner = next(iter(route._partners), None)
        if partner is None:
            return
        lo, _ = route.partition.piece(route.partition.buckets[0], partner)
        route.params.view(np.uint32)[lo] ^= 1
        with pytest.raises(RankError, match=f"parameters on rank {comm.rank}.*bucket 0"):
            route.check()


@pytest.mark.parametrize("later", [0, 1])
def test_what_is_kept_can_be_recalled(kind: str, later: int) -> None:
    header = dict.fromkeys(HEADER_FIELDS, "") | {"folder": str(Path.cwd().resolve())}
    with opened(kind, state=["momentum"], run=RUN) as route:
        audit = audited(route)
        route.audit_all()
        for number in range(3):
            step(route, number)
            if route.is_leader and number < 2:
                pieces = route.owned_by_node()
                header |= dict(step=number + 1, pieces=pieces)
                route.replica.commit(header, audit.cells)
            barrier(comm)
        # The third step has gone over the first, and was never marked.
        state = load_from_memory(comm, RUN, Path.cwd(), later)
        assert (state is not None) == (comm.rank == 0)
        if state:
            assert state.step == 2
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
    assert not list(replica.folder().glob(f"{RUN}-*"))


def test_a_replica_that_differs_is_named() -> None:
    with opened("flat") as route:
        route.params[:] = 1
        wrong = comm.size - 1
        if comm.rank == wrong:
            route.params[COUNT // 2] = np.nextafter(np.float32(1), np.float32(2))
        named = pytest.raises(RankError, match=f"replica of rank {wrong} on .* differs")
        with named if comm.rank == wrong and wrong else nothing():
            route.digest()


def test_choose_looks_at_nodes_and_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = comm.size > 1
    assert choose(comm, "auto", COUNT, CONTIGUOUS) == ("node" if shared else "flat")
    assert choose(comm, "flat", COUNT, CONTIGUOUS) == "flat"
    # One rank that is short of memory is enough.
    short = comm.rank == comm.size - 1
    monkeypatch.setattr(routes, "_shared_memory_free", lambda: 1000 if short else 1 << 40)
    assert choose(comm, "auto", COUNT, CONTIGUOUS) == "flat"
    if shared:
        with pytest.raises(UserError, match="--route node needs"):
            choose(comm, "node", COUNT, CONTIGUOUS)
