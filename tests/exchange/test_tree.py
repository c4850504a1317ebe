"""The order of sums: what is added to what follows from the number of shards alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dist_vgg.data.shards import hosted
from dist_vgg.exchange.tree import (
    TILE_FLOATS,
    LocalTree,
    branches,
    first,
    fold,
    plan,
    remaining,
    sum_along_tree,
)

COUNTS = st.integers(1, 40)


class Sum:
    """A sum that remembers its brackets."""

    def __init__(self, text: str) -> None:
        self.text = text

    def add(self, other: "Sum") -> None:
        self.text = f"({self.text}+{other.text})"


def test_the_tree_is_the_one_drawn_in_the_readme() -> None:
    sums = {(0, i): Sum(str(i)) for i in range(8)}
    (root,) = fold(sums, 8, Sum.add).values()
    assert root.text == "(((0+1)+(2+3))+((4+5)+(6+7)))"
    (root,) = fold({(0, i): Sum(str(i)) for i in range(5)}, 5, Sum.add).values()
    assert root.text == "(((0+1)+(2+3))+4)"


@given(shards=COUNTS, data=st.data())
def test_brackets_depend_on_shards_alone(shards: int, data: st.DataObject) -> None:
    (whole,) = fold({(0, i): Sum(str(i)) for i in range(shards)}, shards, Sum.add).values()
    ranks = data.draw(st.integers(1, shards))
    owner = data.draw(st.lists(st.integers(0, ranks - 1), min_size=shards, max_size=shards))
    gathered = {}
    for rank in range(ranks):
        tree = LocalTree(shards)
        vectors: dict[int, Sum] = {}
        for shard in (i for i in range(shards) if owner[i] == rank):
            vectors[tree.next()] = Sum(str(shard))
            tree.add((shard,), lambda left, right, v=vectors: v[left].add(v.pop(right)))  # type: ignore[misc]
        gathered |= {block: vectors[place] for block, place in tree.blocks.items()}
    (root,) = fold(gathered, shards, Sum.add).values()
    assert root.text == whole.text


def test_branches_are_whole_and_have_every_shard_once() -> None:
    assert [list(b) for b in branches(range(7), 4)] == [[0, 1, 2, 3], [4, 5], [6]]
    assert [list(b) for b in branches(range(3, 9), 3)] == [[3], [4, 5], [6, 7], [8]]
    assert [list(b) for b in branches(range(2), 0)] == [[0], [1]]


def test_one_rank_needs_few_vectors() -> None:
    tree = LocalTree(64)
    for _ in range(2):
        tree.clear()
        for shard in range(64):
            tree.next()
            tree.add((shard,), lambda left, right: None)
        assert tree.vectors == 7  # log2(64) + 1


@given(shards=COUNTS, data=st.data())
def test_a_plan_has_what_remains_of_a_ranks_shards(shards: int, data: st.DataObject) -> None:
    ranks, together = data.draw(st.integers(1, shards)), data.draw(st.integers(1, 9))
    trees = [plan(branches(hosted(shards, ranks, rank), together), shards) for rank in range(ranks)]
    for rank, tree in enumerate(trees):
        mine = hosted(shards, ranks, rank)
        # The last shard's gradient is not added yet, so that it can be sent while it comes.
        alone = remaining([(0, i) for i in mine], shards)
        assert set(remaining(tree.blocks, shards)) == set(alone)
        assert sorted(set(tree.blocks.values())) == sorted(tree.blocks.values())
        assert tree.vectors <= 2 * len(mine).bit_length() - 1  # 2 log2(n) + 1
    everything = [block for tree in trees for block in tree.blocks]
    assert remaining(everything, shards) == [((shards - 1).bit_length(), 0)]
    assert first(everything)[1] == 0


@pytest.mark.parametrize("count", [1, TILE_FLOATS, 2 * TILE_FLOATS + 7])
def test_arrays_are_added_tile_by_tile_with_the_same_bits(count: int) -> None:
    rng = np.random.default_rng(3)
    scales = 10.0 ** rng.integers(-4, 4, (5, count))
    a = (rng.standard_normal((5, count)) * scales).astype(np.float32)
    expected = ((a[0] + a[1]) + (a[2] + a[3])) + a[4]
    total = sum_along_tree({(0, i): vector for i, vector in enumerate(a)}, 5)
    assert np.shares_memory(total, a[0])
    assert np.array_equal(total, expected)
