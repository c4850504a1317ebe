"""Micro-batches: every sample once an epoch, in an order that only the seed decides."""

import threading
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dist_vgg.base.errors import RankError
from dist_vgg.data.batches import Batches, Prefetcher
from dist_vgg.data.samples import Samples


def shard(index: int, count: int) -> Samples:
    """Samples whose ids tell their shard and their place in it."""
    pixels = np.zeros((count, 2, 2, 1), np.uint8)
    return Samples(pixels, np.zeros(count, np.uint8), 1000 * index + np.arange(count))


def batches(
    counts: Sequence[int], size: int, hosted: Sequence[int] | None = None, seed: int = 0
) -> Batches:
    """The batches of a rank that hosts some shards, or all."""
    mine = range(len(counts)) if hosted is None else hosted
    return Batches({i: shard(i, counts[i]) for i in mine}, np.array(counts), size, seed)


def epoch_ids(it: Batches, shard: int, epoch: int) -> list[int]:
    steps = range(epoch * it.steps_per_epoch, (epoch + 1) * it.steps_per_epoch)
    return [int(i) for step in steps for i in it.micro_batch(shard, step).ids]


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=5).filter(any),
    st.integers(1, 40),
    st.integers(0, 2**63 - 1),
)
def test_every_sample_exactly_once_an_epoch(counts: list[int], size: int, seed: int) -> None:
    it = batches(counts, size, seed=seed)
    assert it.samples == sum(counts)
    for epoch in range(2):
        for index, count in enumerate(counts):
            assert sorted(epoch_ids(it, index, epoch)) == [1000 * index + i for i in range(count)]
    # Nor is there a step for nothing.
    for step in range(2 * it.steps_per_epoch):
        sizes = [len(it.micro_batch(index, step)) for index in range(len(counts))]
        assert it.global_size(step) == sum(sizes) > 0
        assert max(sizes) <= size


def test_a_shard_that_runs_out_brings_nothing() -> None:
    it = batches([7, 3, 0], size=3)
    assert it.steps_per_epoch == 3
    assert [[len(it.micro_batch(i, step)) for i in range(3)] for step in range(4)] == [
        [3, 3, 0],
        [3, 0, 0],
        [1, 0, 0],
        [3, 3, 0],
    ]
    assert [it.global_size(step) for step in range(4)] == [6, 3, 1, 6]


def test_an_empty_micro_batch_keeps_its_shape() -> None:
    assert batches([2, 0], size=2).micro_batch(1, 0).pixels.shape == (0, 2, 2, 1)


def test_place() -> None:
    it = batches([7], size=3)
    assert [it.position(step) for step in (0, 2, 3, 7)] == [(0, 0), (0, 2), (1, 0), (2, 1)]


def test_labels_and_pixels_stay_with_their_ids() -> None:
    ids = np.arange(10)
    samples = Samples(np.tile(ids[:, None, None, None], (1, 2, 2, 1)), ids * 2, ids)
    part = Batches({0: samples}, np.array([10]), 4, 0).micro_batch(0, 1)
    np.testing.assert_array_equal(part.labels, part.ids * 2)
    np.testing.assert_array_equal(part.pixels[:, 1, 1, 0], part.ids)


def test_the_order_does_not_depend_on_what_is_hosted_here() -> None:
    counts = [20, 20, 20]
    everything = batches(counts, 6)
    for index in range(3):
        alone = batches(counts, 6, hosted=[index])
        assert epoch_ids(alone, index, 1) == epoch_ids(everything, index, 1)


def test_the_order_depends_on_seed_epoch_and_shard() -> None:
    counts = [50, 50]
    one, other = batches(counts, 6), batches(counts, 6, seed=1)
    orders = [
        epoch_ids(one, 0, 0),
        epoch_ids(one, 0, 1),
        epoch_ids(other, 0, 0),
        [i - 1000 for i in epoch_ids(one, 1, 0)],
        list(range(50)),
    ]
    assert len({tuple(order) for order in orders}) == len(orders)


@pytest.mark.parametrize("steps", [[7, 0, 3], [0, 7, 3], [3, 3, 7, 0], [2, 6, 1, 3, 7]])
def test_a_step_does_not_depend_on_those_asked_before(steps: list[int]) -> None:
    it = batches([8, 5], size=3)
    for step in steps:
        for index in (1, 0):
            fresh = batches([8, 5], size=3).micro_batch(index, step)
            np.testing.assert_array_equal(it.micro_batch(index, step).ids, fresh.ids)


def test_the_micro_batch_cuts_one_order() -> None:
    # Another micro_batch is another run, but it walks through the shard in the same order.
    assert epoch_ids(batches([20], 6), 0, 0) == epoch_ids(batches([20], 7), 0, 0)


@pytest.mark.parametrize("size", [2, 32])
def test_a_sample_that_changes_is_named(size: int) -> None:
    samples = shard(3, 5)
    samples = Samples(np.zeros((5, size, size, 1), np.uint8), samples.labels, samples.ids)
    it = Batches({3: samples}, np.array([0, 0, 0, 5]), 5, 0, "rank 2 on host")
    it.micro_batch(3, 0)
    samples.pixels[4, 1, 1] ^= 4
    with pytest.raises(RankError, match="step 8: sample 3004 of shard 3 on rank 2 on host ch") as e:
        it.micro_batch(3, 7)
    assert e.value.status == RankError.CORRUPT


def test_ahead_reads_what_is_announced_while_the_caller_works() -> None:
    read: list[tuple[int, int, str]] = []
    begun = threading.Semaphore(0)

    def reader(shard: int, step: int) -> tuple[int, int]:
        read.append((shard, step, threading.current_thread().name))
        begun.release()
        return shard, step

    ahead = Prefetcher(reader)
    assert ahead(2, 0, then=(5, 0)) == (2, 0)
    assert begun.acquire(timeout=10)
    assert begun.acquire(timeout=10)  # nobody has asked for it yet
    assert ahead(5, 0, then=(2, 1)) == (5, 0)
    assert ahead(7, 3) == (7, 3)  # another than announced
    assert ahead(7, 3) == (7, 3)
    assert [place[:2] for place in read] == [(2, 0), (5, 0), (2, 1), (7, 3), (7, 3)]
    assert threading.current_thread().name not in {name for _, _, name in read}


def test_what_fails_ahead_is_raised_where_it_is_asked_for() -> None:
    def reader(shard: int, step: int) -> int:
        if step == 1:
            raise RankError("a flipped bit", RankError.CORRUPT)
        return step

    ahead = Prefetcher(reader)
    assert ahead(0, 0, then=(0, 1)) == 0
    with pytest.raises(RankError, match="a flipped bit"):
        ahead(0, 1, then=(0, 2))
