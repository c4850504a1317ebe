"""Sums in a stated order: each equals the plain loop that its docstring describes, bit by bit."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist_vgg.kernels import ordered

GRAIN = 16_384
RNG = np.random.Generator(np.random.Philox(6))


@pytest.mark.parametrize("n", [0, 1, 5, 127, 128, 129, 16_384, 16_385, 20_000])
def test_squares_are_added_in_lanes(n: int) -> None:
    x = RNG.standard_normal(n, np.float32)
    expected = []
    for start in range(0, n, GRAIN):
        lanes = [0.0] * ordered.LANES
        for i, value in enumerate(x[start : start + GRAIN].tolist()):
            lanes[i % ordered.LANES] += value * value
        expected.append(0.0)
        for lane in lanes:
            expected[-1] += lane
    assert ordered.squares(x, GRAIN).tolist() == expected


@given(n=st.integers(0, 3000), axis=st.integers(0, 1), seed=st.integers(0, 9))
@settings(max_examples=30)
def test_a_total_runs_from_first_to_last(n: int, axis: int, seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal((n, 3) if axis == 0 else (3, n), np.float32)
    expected = np.zeros(3)
    for part in np.moveaxis(x, axis, 0).astype(np.float64):
        expected += part
    np.testing.assert_array_equal(ordered.total(x, axis), expected)


def test_products_are_exact() -> None:
    a, b = RNG.standard_normal((2, 5, 9)) * 8, RNG.standard_normal((9, 4)) * 8
    unit = 1 << 20
    whole_a, whole_b = np.rint(a * unit).astype(int), np.rint(b * unit).astype(int)
    found = ordered.matmul(a, b)
    for i, row, column in np.ndindex(found.shape):
        terms = zip(whole_a[i, row].tolist(), whole_b[:, column].tolist(), strict=True)
        expected = Fraction(sum(p * q for p, q in terms), unit * unit)
        assert Fraction(float(found[i, row, column])) == expected
    np.testing.assert_allclose(found, a @ b, atol=1e-3)
