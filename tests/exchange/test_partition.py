"""The partition of the flat vector, whatever its length and the number of ranks."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dist_vgg.exchange.partition import Partition


@given(count=st.integers(1, 10**8), ranks=st.integers(1, 64))
def test_pieces_tile_the_vector_on_grains(count: int, ranks: int) -> None:
    cut = Partition(count, ranks)
    assert cut.grain == Partition(count, 1).grain
    end = 0
    for bucket in cut.buckets:
        for rank in range(ranks):
            lo, hi = cut.piece(bucket, rank)
            assert lo == end
            assert lo % cut.grain == 0 or lo == count
            end = hi
    assert end == count


@given(count=st.integers(1, 10**7), ranks=st.integers(1, 20), data=st.data())
def test_what_ranks_own_together_is_joined(count: int, ranks: int, data: st.DataObject) -> None:
    cut = Partition(count, ranks)
    some = sorted(data.draw(st.sets(st.integers(0, ranks - 1), min_size=1)))
    joined = cut.owned_by(some)
    assert all(lo < hi for lo, hi in joined)
    assert all(hi < lo for (_, hi), (lo, _) in pairwise(joined))
    own = sum(hi - lo for rank in some for lo, hi in cut.owned(rank))
    assert sum(hi - lo for lo, hi in joined) == own
    assert cut.owned_by(range(ranks)) == [(0, count)]
    assert [sum(cut.sizes(bucket)) for bucket in cut.buckets] == [hi - lo for lo, hi in cut.buckets]


@given(
    count=st.integers(1, 10**7), tail=st.integers(0, 10**7), nodes=st.integers(1, 5),
    each=st.integers(1, 3),
)  # fmt: skip
def test_every_node_owns_the_tail_and_one_answers_for_it(
    count: int, tail: int, nodes: int, each: int
) -> None:
    ranks = [tuple(range(node, nodes * each, nodes)) for node in range(nodes)]  # dealt in turn
    cut = Partition(count, nodes * each, tail, ranks)
    assert cut.tail == count or cut.tail % cut.grain == 0
    assert min(tail, count) <= cut.tail < tail + cut.grain
    assert cut.tail in (0, count) or cut.tail in dict(cut.buckets)
    answered = sorted(s for rank in range(cut.ranks) for s in cut.answers(rank) if s[0] < s[1])
    assert [lo for lo, _ in answered] == [0, *[hi for _, hi in answered[:-1]]]
    assert answered[-1][1] == count
    for of_node in ranks:
        own = sum(hi - lo for lo, hi in cut.owned_by(of_node) if lo >= cut.tail)
        joined = [hi - cut.tail for lo, hi in cut.owned_by(of_node) if lo < cut.tail < hi]
        assert own + sum(joined) == count - cut.tail
    alone = Partition(count, nodes * each, tail)
    assert alone.buckets == cut.buckets
    assert all(alone.answers(rank) == alone.owned(rank) for rank in range(alone.ranks))


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_squares_have_the_same_bits_at_any_number_of_ranks(ranks: int) -> None:
    count = 70_001
    total = np.random.default_rng(1).standard_normal(count).astype(np.float32)
    cut = Partition(count, ranks)
    parts = [cut.squares(total, cut.owned(rank)) for rank in range(ranks)]
    # Each grain is one rank's, so that the order of the ranks matters to no bit.
    assert (np.count_nonzero(parts, axis=0) == 1).all()
    assert np.array_equal(sum(parts), Partition(count, 1).squares(total, [(0, count)]))
    assert np.sum(parts) == pytest.approx(np.square(total.astype(float)).sum())
