"""Gradients from their factors on real ranks, against whole ones; under mpirun with pytest-mpi."""

from collections.abc import Sequence
from contextlib import nullcontext as nothing
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from exchanges import (
    CONTIGUOUS,
    COUNT,
    ROUND_ROBIN,
    RUN,
    SHARDS,
    Hosts,
    comm,
    gradient,
    opened,
)

from dist_vgg.base.errors import RankError
from dist_vgg.doctor.traffic import sent_bytes
from dist_vgg.exchange import factors, nodes, placement
from dist_vgg.exchange.factors import Product, Products
from dist_vgg.exchange.partition import Partition
from dist_vgg.exchange.route import Route
from dist_vgg.exchange.tree import fold, sum_along_tree
from dist_vgg.kernels.parts import tree_sum
from dist_vgg.mpi.collectives import allreduce_sum, barrier
from dist_vgg.recovery.host_memory import HEADER_FIELDS, load_from_memory
from dist_vgg.state import shm
from dist_vgg.state.checksums import GRADIENT, PARAMETERS

pytestmark = pytest.mark.mpi

WIDE, THIN = Product(COUNT - 50_560, 40, 500), Product(COUNT - 30_060, 500, 60)
LO = WIDE.lo  # within a grain, as the first fully connected layer begins


def write(
    dy: np.ndarray, x: np.ndarray, dw: np.ndarray, db: np.ndarray, counts: Sequence[int]
) -> None:
    """As the kernels do it: a chain over the samples of each shard, and the tree over shards."""

    def one(part: slice, dw: np.ndarray, db: np.ndarray) -> None:
        dw[:], db[:] = 0, 0
        for row, out in zip(x[part], dy[part], strict=True):
            dw += row[:, None] * out
            db += out

    tree_sum(one, counts, len(x), dw, db)


PRODUCTS = Products((WIDE, THIN), 2, write)


@pytest.fixture(params=["parameters travel", "every node updates"])
def everywhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if request.param == "parameters travel":
        monkeypatch.setattr(factors, "SAMPLES_AT_EVERY_NODE", 0)
    monkeypatch.setattr(nodes, "crowded", lambda comm: False)  # "flat", as on hosts of one rank
    return bool(request.param == "every node updates")


def samples(step: int, shard: int) -> int:
    """As at the end of an epoch: some shards have fewer, and some none."""
    return (2, 2, 1, 0)[(step + shard) % 4]


@cache
def drawn(step: int, shard: int, product: Product) -> tuple[np.ndarray, np.ndarray]:
    rng, n = np.random.default_rng([step, shard, product.lo]), samples(step, shard)
    x, dy = (rng.standard_normal((n, k)) for k in (product.inputs, product.outputs))
    return x.astype(np.float32), dy.astype(np.float32)


@cache
def plain_sum(step: int) -> np.ndarray:
    """The sum along the tree of whole gradients."""
    sums = {}
    for shard in range(SHARDS):
        sums[0, shard] = whole = gradient(step, shard).copy()
        for p in PRODUCTS.all:
            x, dy = drawn(step, shard, p)
            dw = whole[p.lo : p.bias].reshape(p.inputs, p.outputs)
            write(dy, x, dw, whole[p.bias : p.hi], (len(x),))
    (total,) = fold(sums, SHARDS, lambda left, right: np.add(left, right, out=left)).values()
    return total


def compute(route: Route, step: int) -> None:
    """As backward does; where it has not to write, vectors have what no sum survives."""
    for branch in route.branches:
        grad = route.gradient()
        grad[:] = np.nan
        counts = [samples(step, shard) for shard in branch]
        for p in reversed(PRODUCTS.all):
            x, dy = (
                np.concatenate(arrays)
                for arrays in zip(*(drawn(step, shard, p) for shard in branch), strict=True)
            )
            if not sum(counts):
                grad[p.lo : p.hi] = 0
            elif route.factors:
                route.factors(counts, p.lo, x, dy)
            else:
                dw = grad[p.lo : p.bias].reshape(p.inputs, p.outputs)
                write(dy, x, dw, grad[p.bias : p.hi], counts)
            route.ready(p.lo, p.hi)
        ahead = {(0, k): gradient(step, shard)[:LO].copy() for k, shard in enumerate(branch)}
        grad[:LO] = sum_along_tree(ahead, len(branch))
        route.add(*branch)


def step(route: Route, number: int) -> None:
    """A step with momentum, and its audit."""
    compute(route, number)
    route.wait()
    route.reduce_scatter()
    route.check()
    barrier(comm)
    before, momentum = route.params, route.state["momentum"]
    route.replica.swap()
    for lo, hi in route.owned:
        route.params[lo:hi] = before[lo:hi] - route.total[lo:hi]
        route.state["momentum"][lo:hi] = momentum[lo:hi] + route.total[lo:hi]
        if route.audit:
            route.audit.check(GRADIENT, route.total, lo, hi)
            route.audit.note(PARAMETERS, route.params, lo, hi)
            route.audit.note("momentum", route.state["momentum"], lo, hi)
    route.all_gather()


@pytest.mark.parametrize(
    ("hosts", "together"),
    ((CONTIGUOUS, 1), (ROUND_ROBIN, 1), (CONTIGUOUS, 4)),
    ids=["contiguous", "round robin", "together"],
)
def test_sums_are_those_of_whole_gradients(
    kind: str, hosts: Hosts, together: int, everywhere: bool
) -> None:
    with opened(kind, hosts, ["momentum"], products=PRODUCTS, together=together) as route:
        assert route.factors
        params, momentum = np.zeros((2, COUNT), np.float32)
        for number in range(3):
            step(route, number)
            params -= plain_sum(number)
            momentum += plain_sum(number)
            for lo, hi in route.owned:
                assert np.array_equal(route.total[lo:hi], plain_sum(number)[lo:hi])
            squares = allreduce_sum(comm, route.partition.squares(route.total, route.answers))
            alone = Partition(COUNT, 1).squares(plain_sum(number), [(0, COUNT)])
            assert np.array_equal(squares, alone)
            assert np.array_equal(route.params, params)
        full = route.vectors.gather(route.state["momentum"])
        assert full is None or np.array_equal(full, momentum)


def test_what_is_sent_is_counted(kind: str, everywhere: bool) -> None:
    with opened(kind, state=["momentum"], products=PRODUCTS) as route:
        route._overlaps = False  # as where MPI lets no other thread call it
        for number in range(2):
            step(route, number)
            for lo, hi in route.owned:
                assert np.array_equal(route.total[lo:hi], plain_sum(number)[lo:hi])
            barrier(comm)
        expected = sent_bytes(route.nodes, COUNT, CONTIGUOUS, PRODUCTS)
        sent = allreduce_sum(route.nodes.node, np.array([route.sent_bytes], np.int64))
        assert sent[0] == 2 * expected
        assert bool(expected) == bool(route.nodes.elsewhere)


def test_a_standby_is_kept_where_all_has_room(
    kind: str, everywhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = nodes.neighbours if kind == "node" else lambda comm: comm.Split(comm.rank)
    monkeypatch.setattr(placement, "neighbours", here)
    with opened(kind, state=["momentum"], standby=RUN, products=PRODUCTS) as route:
        taken = route.shared_bytes
        run = COUNT, CONTIGUOUS, 2, 1, route.partition.tail
        monkeypatch.setattr(shm, "bytes_free", lambda: taken - 1)
        assert "MiB free of" in placement.why_no_standby(comm, kind, *run)
        monkeypatch.setattr(shm, "bytes_free", lambda: 2 * taken)
        assert not placement.why_no_standby(comm, kind, *run)


def test_what_every_node_owns_is_scattered_to_all(kind: str, everywhere: bool) -> None:
    with opened(kind, state=["momentum"], products=PRODUCTS) as route:
        momentum = route.state["momentum"]
        route.vectors.scatter(gradient(0, 0) if comm.rank == 0 else None, momentum)
        owned, tail = np.zeros(COUNT, np.int64), route.partition.tail
        for lo, hi in route.owned:
            owned[lo:hi] = momentum[lo:hi] == gradient(0, 0)[lo:hi]
        allreduce_sum(comm, owned)  # of all ranks, so that all fail where one does
        assert (owned[:tail] == 1).all()
        assert (owned[tail:] == (len(route.nodes.all) if everywhere else 1)).all()


@pytest.mark.parametrize("name", [PARAMETERS, "momentum"])
def test_a_flipped_bit_in_the_tail_is_noticed(kind: str, name: str, everywhere: bool) -> None:
    with opened(kind, state=["momentum"], standby=RUN, audited=True, products=PRODUCTS) as route:
        assert route.audit
        route.audit.note_all()
        step(route, 0)
        barrier(comm)
        for row, vector in ((PARAMETERS, -plain_sum(0)), (GRADIENT, plain_sum(0))):
            assert np.array_equal(route.audit.rows[row], route.audit.cells.sums(vector, 0, COUNT))
        victim = comm.size - 1
        if comm.rank == victim:
            vectors = {PARAMETERS: route.params, **route.state}
            vectors[name].view(np.uint32)[route.owned[-1][1] - 1] ^= 1 << 30
        barrier(comm)
        mine = comm.rank == victim
        with pytest.raises(RankError, match=f"{name} on rank {victim}") if mine else nothing():
            route.audit.check_all()


def test_what_is_kept_can_be_recalled(kind: str, everywhere: bool) -> None:
    header = dict.fromkeys(HEADER_FIELDS, "") | {"folder": str(Path.cwd().resolve())}
    with opened(kind, state=["momentum"], standby=RUN, audited=True, products=PRODUCTS) as route:
        assert route.audit
        route.audit.note_all()
        for number in range(2):
            step(route, number)
            route.audit.commit(header | dict(step=number + 1, kernels_version=1))
            barrier(comm)
        state = load_from_memory(comm, RUN, Path.cwd(), 0)
        assert (state is not None) == (comm.rank == 0)
        if state:
            expected = plain_sum(0) + plain_sum(1)
            assert state.step == 2
            assert np.array_equal(state.params, -expected)
            assert np.array_equal(state.state["momentum"], expected)
        barrier(comm)
    barrier(comm)


def test_ranks_of_a_host_without_shared_memory_do_not_all_compute_the_same() -> None:
    with opened("flat", products=PRODUCTS) as route:
        assert not any(map(route.partition.everywhere, route.partition.buckets))
        assert route.factors


def test_more_numbers_than_the_gradient_do_not_travel(kind: str) -> None:
    crowd = Products(PRODUCTS.all, 100, write)
    assert not crowd.pay(SHARDS)
    with opened(kind, products=crowd) as route:
        assert route.factors is None
        assert route.partition == Partition(COUNT, comm.size)
