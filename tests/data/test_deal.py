"""The deal: a fixed subset, in a fixed order, in even parts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dist_vgg.data import deal

label_lists = st.lists(st.integers(0, 9), min_size=1, max_size=200).map(np.array)


def test_shuffled_is_a_permutation_named_by_seed_and_split() -> None:
    first = deal.shuffled(1000, 0, "train")
    np.testing.assert_array_equal(np.sort(first), np.arange(1000))
    np.testing.assert_array_equal(first, deal.shuffled(1000, 0, "train"))
    assert (first != np.arange(1000)).mean() > 0.9
    for other in (deal.shuffled(1000, 1, "train"), deal.shuffled(1000, 0, "test")):
        assert (first != other).mean() > 0.9


def test_shuffled_never_changes() -> None:
    # Prepared data is named by its digest in papers: a changed shuffle is another data set.
    assert deal.shuffled(10, 0, "train").tolist() == [3, 7, 5, 1, 8, 9, 0, 4, 6, 2]


@pytest.mark.parametrize(
    ("available", "limit", "quota"),
    [
        ([9, 9, 9], 6, [2, 2, 2]),
        ([9, 9, 9], 8, [3, 3, 2]),
        ([9, 9, 9], 1, [1, 0, 0]),
        ([1, 9, 9], 9, [1, 4, 4]),
        ([1, 9, 2], 8, [1, 5, 2]),
        ([0, 9, 9], 4, [0, 2, 2]),
        ([1, 2, 3], 99, [1, 2, 3]),
        ([1, 2, 3], 0, [0, 0, 0]),
    ],
)
def test_quotas(available: list[int], limit: int, quota: list[int]) -> None:
    assert deal.quotas(np.array(available), limit).tolist() == quota


@given(st.lists(st.integers(0, 50), min_size=1, max_size=10).map(np.array), st.integers(0, 300))
def test_quotas_are_as_equal_as_can_be(available: np.ndarray, limit: int) -> None:
    quota = deal.quotas(available, limit)
    assert quota.sum() == min(limit, available.sum())
    assert (quota <= available).all()
    # Only a class that has no more to give may have fewer than another, by more than one.
    assert (quota[quota < available] >= quota.max(initial=0) - 1).all()


def test_choose_keeps_the_first_of_each_class_in_order() -> None:
    labels = np.array([1, 1, 0, 1, 0, 0, 1])
    assert deal.choose(labels, 4).tolist() == [0, 1, 2, 4]
    assert deal.choose(labels, 7).tolist() == list(range(7))


@given(label_lists, st.integers(1, 250))
def test_a_larger_choice_has_the_smaller_one_in_it(labels: np.ndarray, limit: int) -> None:
    small, large = deal.choose(labels, limit), deal.choose(labels, limit + 5)
    assert len(small) == min(limit, len(labels))
    assert set(small) <= set(large)
    assert (np.diff(small) > 0).all()


@given(label_lists, st.integers(1, 20))
def test_deal_is_even_and_complete(labels: np.ndarray, shards: int) -> None:
    hands = deal.deal(labels, shards)
    assert len(hands) == shards
    np.testing.assert_array_equal(np.sort(np.concatenate(hands)), np.arange(len(labels)))
    sizes = [len(hand) for hand in hands]
    assert max(sizes) - min(sizes) <= 1
    counts = np.array([np.bincount(labels[hand], minlength=10) for hand in hands])
    assert np.ptp(counts, axis=0).max() <= 1
    for hand in hands:
        assert (np.diff(hand) > 0).all()  # the shuffled order is kept
