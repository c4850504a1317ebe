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
