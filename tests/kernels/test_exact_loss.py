"""The loss with the same bits everywhere is the reference's loss."""

import numpy as np
import pytest

from dist_vgg.kernels import exact_loss, reference

RNG = np.random.Generator(np.random.Philox(7))
LOGITS = RNG.standard_normal((6, 10)) * 20
LABELS = np.array([0, 9, 3, 3, 5, 1])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_and_gradient_are_the_reference_s(smoothing: float) -> None:
    found = exact_loss.cross_entropy(LOGITS, LABELS, 12, smoothing)
    expected = reference.cross_entropy(LOGITS, LABELS, 12, smoothing)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-16)


def test_results_are_rounded_once_to_the_type_of_the_logits() -> None:
    logits = LOGITS.astype(np.float32)
    wide = logits.astype(np.float64)
    cases = zip(
        (*exact_loss.cross_entropy(logits, LABELS, 12, 0.1), exact_loss.softmax(logits)),
        (*exact_loss.cross_entropy(wide, LABELS, 12, 0.1), exact_loss.softmax(wide)),
        strict=True,
    )
    for found, expected in cases:
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected.astype(np.float32))


def test_logits_far_apart_and_not_finite() -> None:
    far = np.array([[0.0, 2000.0], [-3e38, 3e38]], np.float32)
    np.testing.assert_array_equal(exact_loss.softmax(far), [[0, 1], [0, 1]])
    losses, _ = exact_loss.cross_entropy(far, np.array([1, 1]), 2)
    np.testing.assert_array_equal(losses, [0, 0])
    losses, _ = exact_loss.cross_entropy(np.array([[np.nan, 0.0]]), np.array([1]), 1)
    assert np.isnan(losses).all()


@pytest.mark.parametrize("axis", [0, 1])
def test_log_sum_exp_and_softmax_are_numpy_s(axis: int) -> None:
    expected = np.logaddexp.reduce(LOGITS, axis=axis, keepdims=True)
    np.testing.assert_allclose(exact_loss.log_sum_exp(LOGITS, axis), expected, rtol=1e-13)
    np.testing.assert_allclose(exact_loss.softmax(LOGITS), reference.softmax(LOGITS), rtol=1e-12)
