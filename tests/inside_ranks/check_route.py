"""The routes on real ranks, against the plain sum along the tree; under mpirun with pytest-mpi."""

import time
from itertools import pairwise

import numpy as np
import pytest
from exchanges import (
    CONTIGUOUS,
    COUNT,
    ROUND_ROBIN,
    Hosts,
    comm,
    compute,
    gradient,
    opened,
    plain_sum,
)

from dist_vgg.exchange.partition import Partition
from dist_vgg.mpi.collectives import allreduce_sum
from dist_vgg.state.checksums import parameter_digest

pytestmark = pytest.mark.mpi


@pytest.mark.parametrize(
    "shards_of_rank", (CONTIGUOUS, ROUND_ROBIN), ids=["contiguous", "round robin"]
)
def test_steps_leave_every_replica_with_the_plain_result(kind: str, shards_of_rank: Hosts) -> None:
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
        assert route.vectors.digest() == parameter_digest(expected)


def test_what_is_finished_may_be_sent_while_backward_goes_on(kind: str) -> None:
    cut = Partition(COUNT, comm.size)
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


def test_parameters_may_arrive_while_the_next_forward_goes_on(kind: str) -> None:
    edges = [0, 5, *(lo for lo, _ in Partition(COUNT, comm.size).buckets[2:]), COUNT]
    expected = np.ones(COUNT, np.float32)
    with opened(kind) as route:
        route.params[:] = 1
        for step in range(3):
            for shard in route.local_shards:
                for lo, hi in pairwise(edges):
                    route.need(lo, hi)
                    assert np.array_equal(route.params[lo:hi], expected[lo:hi])
                    time.sleep(0.001 * (comm.rank % 3))
                route.gradient()[:] = gradient(step, shard)
                route.add(shard)
            route.wait()
            route.reduce_scatter()
            for lo, hi in route.owned:
                route.params[lo:hi] -= route.total[lo:hi]
            expected -= plain_sum(step)
            last = step == 2
            assert route.all_gather(follows=not last) == (last or not route.nodes.elsewhere)
        assert np.array_equal(route.params, expected)


def test_senders_work_only_between_nodes(kind: str) -> None:
    with opened(kind) as route:
        shards, several = (
            list(route.local_shards),
            len([route.nodes.home, *route.nodes.elsewhere]) > 1,
        )
        for shard in shards:
            route.gradient()[:] = gradient(0, shard)
            assert (
                not route._gradients.is_going_on
            )  # no gradient but the last is part of the result
            route.ready(COUNT // 2, COUNT)
            assert route._gradients.is_going_on == (several and shard == shards[-1])
            route.add(shard)
        route.reduce_scatter()


def test_an_error_in_the_sender_is_raised_where_the_step_waits(kind: str) -> None:
    with opened(kind) as route:
        if len([route.nodes.home, *route.nodes.elsewhere]) == 1:
            return
        route._sum = lambda bucket: 1 // 0  # type: ignore[method-assign]
        for shard in route.local_shards:
            route.gradient()[:] = 0
            route.add(shard)
        with pytest.raises(ZeroDivisionError):
            route.wait()


def test_norm_has_the_same_bits_everywhere(kind: str) -> None:
    with opened(kind) as route:
        compute(route, 0)
        route.reduce_scatter()
        squares = allreduce_sum(comm, route.partition.squares(route.total, route.owned))
        alone = Partition(COUNT, 1).squares(plain_sum(0), [(0, COUNT)])
        assert np.array_equal(squares, alone)
        assert squares.sum() == pytest.approx(np.square(plain_sum(0).astype(float)).sum())
