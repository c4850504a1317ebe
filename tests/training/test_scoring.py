"""Scores: each image once, and the mean of what is seen from several places."""

import numpy as np
import pytest

from dist_vgg.data.samples import Samples, normalise
from dist_vgg.kernels import reference as F
from dist_vgg.kernels import sets
from dist_vgg.network.vgg import initialise, vgg16
from dist_vgg.training import scoring
from dist_vgg.training.scoring import Score, averaged, score, shifted, shifts_by


def test_a_move_brings_in_zeros_and_keeps_the_rest() -> None:
    image = np.arange(1, 13, dtype=np.uint8).reshape(1, 3, 4, 1)
    np.testing.assert_array_equal(shifted(image, 0, 0), image)
    np.testing.assert_array_equal(
        shifted(image, 1, -2)[0, :, :, 0], [[0, 0, 0, 0], [3, 4, 0, 0], [7, 8, 0, 0]]
    )
    np.testing.assert_array_equal(
        shifted(image, -2, 1)[0, :, :, 0], [[0, 9, 10, 11], [0, 0, 0, 0], [0, 0, 0, 0]]
    )


def test_to_stay_is_among_the_places() -> None:
    assert list(shifts_by(0)) == [(0, 0)]
    assert len(set(shifts_by(2))) == 9
    assert set(np.ravel(shifts_by(2))) == {-2, 0, 2}
    assert shifts_by(2)[0] == (0, 0)


def test_probabilities_are_averaged_not_logits() -> None:
    several = [np.random.default_rng(k).normal(0, 4, (6, 10)).astype(np.float32) for k in range(3)]
    expected = np.mean([F.softmax(logits) for logits in several], axis=0)
    found = averaged(several)
    np.testing.assert_allclose(np.exp(found), expected, rtol=1e-5)
    labels = np.arange(6)
    losses = F.cross_entropy(found, labels, 6)[0]
    np.testing.assert_allclose(losses, -np.log(expected[labels, labels]), rtol=1e-4)
    assert averaged(several[:1]) is several[0]  # the plain score is untouched


@pytest.fixture
def one_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other rank, and no MPI."""
    monkeypatch.setattr(scoring, "allreduce_sum", lambda comm, values: values)


def test_a_score_over_moves_is_of_the_mean_of_what_each_gives(one_rank: None) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 1), np.uint8)
    labels = np.arange(40) % 10
    net = vgg16(32, 1, 10, width=0.02, dropout=0)
    params = np.empty(net.parameter_count, np.float32)
    net.bind(params, params)
    initialise(net, params, 0)
    shifts = shifts_by(3)  # which changes the loss by 1e-3
    found = score(net, {0: Samples(pixels, labels, labels)}, 127.0, 70.0, 10, None, shifts)
    images = [normalise(shifted(pixels, *shift), 127.0, 70.0) for shift in shifts]
    expected = np.mean([F.softmax(net.forward(x)) for x in images], axis=0)
    assert found.loss == pytest.approx(-np.log(expected[np.arange(40), labels]).mean(), 1e-6)
    assert found.right == (expected.argmax(axis=1) == labels).sum()


@pytest.mark.parametrize("kernels", ["compiled", "bfloat16"])
def test_more_images_at_a_time_give_the_same_score(
    kernels: str, one_rank: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why := sets.why_missing(kernels):
        pytest.skip(why)
    pixels = np.random.default_rng(0).integers(0, 256, (150, 32, 32, 1), np.uint8)
    numbers = np.arange(150)
    net = vgg16(32, 1, 10, width=0.02, dropout=0, kernels=kernels)
    params = np.empty(net.parameter_count, np.float32)
    net.bind(params, params)
    initialise(net, params, 0)
    # Losses made so unlike that the order of their sum shows.
    scales, usual = np.exp(np.random.default_rng(0).normal(0, 8, 150)), net.ops.cross_entropy

    def unlike(logits: np.ndarray, labels: np.ndarray, total: int) -> tuple[np.ndarray, None]:
        return usual(logits, labels % 10, total)[0] * scales[labels], None

    monkeypatch.setattr(net.ops, "cross_entropy", unlike)

    def found() -> tuple[list[int], Score]:
        sizes: list[int] = []
        shards = {0: Samples(pixels, numbers, numbers)}
        return sizes, score(net, shards, 127.0, 70.0, 150, None, done=sizes.append)

    sizes, together = found()
    assert sizes == [64, 64, 22]
    monkeypatch.setattr(scoring, "batch_size", lambda net: 32)
    sizes, apart = found()
    assert sizes == [32, 32, 32, 32, 22]
    assert together.loss == apart.loss
    np.testing.assert_array_equal(together.confusion, apart.confusion)


def test_what_no_place_believes_in_is_a_large_loss_and_no_infinity() -> None:
    several = [np.array([[400.0, -400.0]], np.float32)] * 2
    assert np.isfinite(averaged(several)).all()


def test_a_score_counts_what_lies_on_the_diagonal() -> None:
    score = Score(np.array([[3, 1], [0, 6]]), 0.5)
    assert (score.right, score.total) == (9, 10)
    assert score.accuracy == pytest.approx(0.9)
