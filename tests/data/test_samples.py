"""Samples in memory: rows, statistics, normalisation and the digest of a data set."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist_vgg.data.samples import Samples, blocks, normalise, pixel_statistics, set_digest


def samples(count: int, seed: int = 0) -> Samples:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, 32, 32, 1), np.uint8)
    labels = (np.arange(count) % 10).astype(np.uint8)
    return Samples(pixels, labels, rng.permutation(count * 2)[:count])


SPLITS = {"train": samples(21), "test": samples(11, 1)}


def test_samples_have_a_length_and_rows() -> None:
    some = SPLITS["train"][3:8]
    assert len(some) == 5
    assert some.ids.tolist() == SPLITS["train"].ids[3:8].tolist()


@given(st.integers(0, 2**32), st.integers(1, 3000), st.integers(1, 256))
@settings(max_examples=20)
def test_statistics_are_those_of_numpy(seed: int, count: int, top: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, top, (count, 2, 2, 3), np.uint8)
    for found, axes in (
        (pixel_statistics(pixels), (0, 1, 2)),
        (pixel_statistics(pixels, together=True), None),
    ):
        std = np.atleast_1d(pixels.std(axis=axes))
        expected = np.atleast_1d(pixels.mean(axis=axes)), np.where(std == 0, 1, std)
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_statistics_do_not_copy_all_pixels_as_integers() -> None:
    import tracemalloc

    pixels = np.zeros((8192, 32, 32, 1), np.uint8)
    tracemalloc.start()
    pixel_statistics(pixels)
    assert tracemalloc.get_traced_memory()[1] < 2 * pixels.nbytes  # as int64: 8 times
    tracemalloc.stop()


def test_normalise_gives_mean_0_and_deviation_1() -> None:
    pixels = SPLITS["train"].pixels
    mean, std = pixel_statistics(pixels)
    x = normalise(pixels, mean, std)
    assert x.dtype == np.float32
    assert abs(x.mean()) < 1e-5
    assert abs(x.std() - 1) < 1e-5
    np.testing.assert_allclose(x, (pixels - mean) / std, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("together", [False, True])
def test_each_channel_has_its_own_statistics(together: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, [9, 99, 255], (50, 32, 32, 3), np.uint8)
    mean, std = pixel_statistics(pixels, together)
    x = normalise(pixels, mean, std)
    over = None if together else (0, 1, 2)
    np.testing.assert_allclose(x.mean(axis=over), 0, atol=1e-4)
    np.testing.assert_allclose(x.std(axis=over), 1, atol=1e-4)


def test_blocks_are_all_rows_once() -> None:
    pixels = np.zeros((21, 32, 32, 1), np.uint8)
    rows = [pixels[rows].shape[0] for rows in blocks(pixels, 4 * 32 * 32)]
    assert rows == [4, 4, 4, 4, 4, 1]
    assert len(list(blocks(pixels, 1))) == 21


def test_the_digest_does_not_depend_on_the_order() -> None:
    rng = np.random.default_rng(5)
    mixed = {split: some[rng.permutation(len(some))] for split, some in SPLITS.items()}
    assert set_digest(mixed) == set_digest(SPLITS)


@pytest.mark.parametrize("name", ["pixels", "labels", "ids"])
@pytest.mark.parametrize("split", SPLITS)
def test_the_digest_depends_on_everything(split: str, name: str) -> None:
    changed = getattr(SPLITS[split], name).copy()
    changed.flat[4] += 1
    other = {**SPLITS, split: replace(SPLITS[split], **{name: changed})}
    assert set_digest(other) != set_digest(SPLITS)


@pytest.mark.parametrize("width", [1, 2])
def test_the_digest_is_what_it_says(width: int) -> None:
    splits = {**SPLITS, "held-out": samples(5, 2)}
    if width == 2:
        splits = {
            split: replace(some, labels=some.labels.astype(np.uint16) * 100)
            for split, some in splits.items()
        }
    expected = hashlib.sha256()
    for split, some in splits.items():
        rows = sorted(range(len(some)), key=lambda row: some.ids[row])
        expected.update(f"{split} {some.pixels.shape}".encode())
        expected.update(b"".join(int(some.ids[row]).to_bytes(8, "little") for row in rows))
        expected.update(b"".join(int(some.labels[row]).to_bytes(width, "little") for row in rows))
        expected.update(b"".join(some.pixels[row].tobytes() for row in rows))
    assert expected.hexdigest() == set_digest(splits)
