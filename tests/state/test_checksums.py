"""Checksums: every flipped bit, the same cells at any rank count, and whose cell it is."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dist_vgg.base.errors import RankError
from dist_vgg.data.batches import row_sums
from dist_vgg.state.checksums import Audit, Cells, whole_sum

COUNT = 1001
BUCKETS = [(0, 512), (512, COUNT)]


def numbers(count: int = COUNT) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(count).astype(np.float32)


@given(st.integers(0, COUNT - 1), st.integers(0, 31))
def test_any_flipped_bit_changes_its_cell_alone(place: int, bit: int) -> None:
    cells = Cells(COUNT, 256, [17, 400, 401])
    vector = numbers()
    before = cells.sums(vector, 0, COUNT)
    vector.view(np.uint32)[place] ^= np.uint32(1 << bit)
    changed = np.flatnonzero(before != cells.sums(vector, 0, COUNT))
    assert changed.tolist() == [cells.at(place)]


@pytest.mark.parametrize("count", [1, 2, 255, 256, 257, 1001])
@pytest.mark.parametrize("cuts", [[], [256], [256, 512, 768]])
def test_pieces_have_the_sums_of_the_whole(count: int, cuts: list[int]) -> None:
    cells, vector = Cells(count, 256, [7, 300]), numbers(count)
    edges = [0, *(cut for cut in cuts if cut < count), count]
    parts = [cells.sums(vector, lo, hi) for lo, hi in pairwise(edges)]
    assert np.array_equal(np.concatenate(parts), cells.sums(vector, 0, count))
    assert len(cells.sums(vector, 0, count)) == len(cells)


def test_the_message_names_place_and_step() -> None:
    cells, names = Cells(COUNT, 256), ["parameters", "momentum"]
    audit = Audit(cells, names, np.zeros((2, len(cells)), np.uint64), "rank 3 on host", BUCKETS)
    vector = numbers()
    audit.note("momentum", vector, 0, COUNT)
    audit.check("momentum", vector, 0, COUNT)
    audit.step = 7
    vector[600] = -vector[600]
    with pytest.raises(RankError) as caught:
        audit.check("momentum", vector, 0, COUNT)
    assert caught.value.status == RankError.CORRUPT
    assert "step 7: the momentum on rank 3 on host changed in memory, in bucket 1 near" in str(
        caught.value
    )
    audit.check("momentum", vector, 0, 512)


def test_layers_and_digest_tell_what_differs() -> None:
    layers = {"first": 0, "second": 301, "third": 700}
    cells = Cells(COUNT, 256, layers.values())
    tables = np.zeros((2, 1, len(cells)), np.uint64)
    one, other = (Audit(cells, ["x"], table, "", BUCKETS) for table in tables)
    vector = numbers()
    one.note("x", vector, 0, COUNT)
    vector[400] += 1
    other.note("x", vector, 0, COUNT)
    before, after = one.by_layer("x", layers), other.by_layer("x", layers)
    assert [name for name in layers if before[name] != after[name]] == ["second"]
    assert one.digest("x") != other.digest("x")


def test_a_whole_is_the_sum_of_its_cells() -> None:
    cells, vector = Cells(COUNT, 256, [17, 400, 401]), numbers()
    audit = Audit(cells, ["x"], np.zeros((1, len(cells)), np.uint64), "rank 3 on host", BUCKETS)
    audit.note("x", vector, 0, COUNT)
    audit.check_whole("x", whole_sum(vector))
    with pytest.raises(RankError, match="the x on rank 3 on host changed in memory before"):
        audit.check_whole("x", whole_sum(vector) ^ 1)


@given(st.sampled_from(["pixels", "labels", "ids"]), st.integers(0, 10**6), st.integers(0, 7))
def test_any_flipped_bit_changes_its_sample_alone(name: str, place: int, bit: int) -> None:
    samples = dict(
        pixels=np.full((5, 3, 3, 1), 7, np.uint8), labels=np.arange(5, dtype=np.uint8),
        ids=np.arange(5) + 60_000,
    )  # fmt: skip
    before = row_sums(**samples)
    content = samples[name].reshape(-1).view(np.uint8)
    content[place := place % len(content)] ^= 1 << bit
    changed = np.flatnonzero(row_sums(**samples) != before)
    assert changed.tolist() == [place // (len(content) // 5)]


def test_no_samples_have_no_sums() -> None:
    nothing = np.zeros(0, np.uint8)
    assert len(row_sums(np.zeros((0, 32, 32, 1), np.uint8), nothing, nothing)) == 0
