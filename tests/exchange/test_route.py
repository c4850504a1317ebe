"""The tree and the cut of the flat vector, and the routes on real ranks."""

from pathlib import Path

import launcher
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dist_vgg.data.shards import hosted
from dist_vgg.exchange import route
from dist_vgg.exchange.route import LocalTree, Partition, fold
from dist_vgg.state import shm

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
            tree.add(shard, lambda left, right, v=vectors: v[left].add(v.pop(right)))  # type: ignore[misc]
        gathered |= {block: vectors[place] for block, place in tree.blocks.items()}
    (root,) = fold(gathered, shards, Sum.add).values()
    assert root.text == whole.text


def test_one_rank_needs_few_vectors() -> None:
    tree = LocalTree(64)
    for _ in range(2):
        tree.clear()
        for shard in range(64):
            tree.next()
            tree.add(shard, lambda left, right: None)
        assert tree.vectors == 7  # log2(64) + 1


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


def test_small_shared_memory_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shm, "SHM", Path(__file__).parent)
    assert 0 < route._shared_memory_free() < 1 << 62
    monkeypatch.setattr(shm, "SHM", Path("/no/such/folder"))
    assert route._shared_memory_free() == 0


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 8])
def test_inside_ranks(ranks: int) -> None:
    """Run the tests that need ranks around them, with pytest-mpi, and see that they ran."""
    checks = launcher.ROOT / "tests" / "inside_ranks"
    status, output, errors = launcher.run(
        -ranks, "-m", "pytest", "--with-mpi", "-q", "-p", "no:cacheprovider",
        checks / "check_allreduce.py", checks / "check_comm.py",
    )  # fmt: skip
    assert status == 0, output + errors
    # Ranks may write into each other's lines.
    assert output.count(" passed in ") == ranks, output
    assert "failed" not in output
    assert "skipped" not in output


def test_hosted_is_fair() -> None:
    assert [len(hosted(8, 3, rank)) for rank in range(3)] == [3, 3, 2]
    assert [i for rank in range(5) for i in hosted(13, 5, rank)] == list(range(13))
