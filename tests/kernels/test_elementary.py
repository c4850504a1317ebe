"""Functions with the same bits on every processor: near the truth, right at the ends, pinned."""

import hashlib
import math
from collections.abc import Callable
from decimal import Context, Decimal
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dist_vgg.kernels import elementary

EXACTLY = Context(prec=60)
RNG = np.random.Generator(np.random.Philox(5))
SPREAD = np.concatenate([RNG.uniform(-700, 700, 500), RNG.uniform(-1, 1, 500)])
INF, NAN = math.inf, math.nan


def ulps(found: float, truth: Decimal) -> float:
    """How far a number is from the truth, in units of its last place."""
    error = EXACTLY.subtract(Decimal(found), truth)
    return float(abs(error)) / math.ulp(float(truth))


def power(base: float, exponent: float) -> Decimal:
    return EXACTLY.power(Decimal(base), Decimal(exponent))


def test_exp_and_log_are_within_an_ulp() -> None:
    for x in SPREAD.tolist():
        assert ulps(elementary.exp(x), EXACTLY.exp(Decimal(x))) < 1
        y = math.exp(x)
        assert ulps(elementary.log(y), EXACTLY.ln(Decimal(y))) < 1


def test_powers_are_within_two_ulps() -> None:
    for base, logarithm in zip(np.exp(SPREAD / 200).tolist(), SPREAD / 25, strict=True):
        exponent = min(1e9, max(-1e9, float(logarithm) / math.log(base)))
        assert ulps(elementary.power(base, exponent), power(base, exponent)) < 2
    for step in range(1, 30_000, 97):  # as Adam takes them
        for beta in (0.9, 0.999):
            if step < 34 / -math.log(beta):
                assert ulps(elementary.power(beta, step), power(beta, step)) < 2


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_sines_are_those_of_the_c_library_but_for_an_ulp_or_three(name: str) -> None:
    ours, theirs = getattr(elementary, name), getattr(math, name)
    quarters = [k * math.pi / 4 for k in range(-9, 10)]
    for x in [*SPREAD.tolist(), *(SPREAD * 1e3).tolist(), *quarters]:
        assert abs(ours(x) - theirs(x)) <= (3 if name == "tan" else 1) * math.ulp(theirs(x))


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("exp", [(0, 1), (-INF, 0), (INF, INF), (NAN, NAN), (-1e9, 0), (1e9, INF), (-745.2, 0)]),
        ("exp", [(-745, 5e-324), (709.78, math.exp(709.78)), (5e-324, 1)]),
        ("log", [(1, 0), (0, -INF), (INF, INF), (-1, NAN), (-0.5, NAN), (-INF, NAN), (NAN, NAN)]),
        ("log", [(5e-324, math.log(5e-324)), (2.0**1023, math.log(2.0**1023))]),
        ("sin", [(0, 0), (5e-324, 5e-324), (INF, NAN), (NAN, NAN)]),
        ("cos", [(0, 1), (-INF, NAN), (NAN, NAN)]),
        ("tan", [(0, 0), (INF, NAN), (NAN, NAN)]),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_ends(name: str, pairs: list[tuple[float, float]]) -> None:
    x, expected = zip(*pairs, strict=True)
    function = getattr(elementary, name)
    for found in ([function(v) for v in x], function(np.array(x))):
        np.testing.assert_allclose(found, expected, rtol=4e-16)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_ends_of_powers() -> None:
    cases = [
        (0, 2, 0), (0, 0.5, 0), (0, 0, 1), (0, -1, INF), (INF, 0.5, INF), (INF, -1, 0),
        (NAN, 2, NAN), (-1, 2, NAN), (4, 0.5, 2), (2, 1100, INF), (2, -1100, 0),
        (1, 1e15, 1), (2, -1074, 5e-324), (0.1, 0, 1), (0.1, 1, 0.1),
    ]  # fmt: skip
    for base, exponent, expected in cases:
        found = elementary.power(base, exponent), *elementary.power(np.array([base]), exponent)
        np.testing.assert_equal(found, (expected, expected), f"{base}**{exponent}")


@pytest.mark.parametrize("name", ["exp", "log", "sin", "cos", "tan"])
@given(x=st.floats(-1e6, 1e6))
def test_a_number_and_an_array_have_the_same_bits(name: str, x: float) -> None:
    function = getattr(elementary, name)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(function(np.array([x])), [function(x)])
        np.testing.assert_array_equal(function(np.float64(x)), function(x))


@given(base=st.floats(0, 1e3), exponent=st.floats(-50, 50))
def test_so_have_powers(base: float, exponent: float) -> None:
    with np.errstate(all="ignore"):
        both = elementary.power(np.array([base]), exponent), [elementary.power(base, exponent)]
        np.testing.assert_array_equal(*both)


def streams(count: int) -> list[np.random.Generator]:
    return [np.random.Generator(np.random.Philox(seed)) for seed in range(count)]


def test_normal_numbers_are_normal() -> None:
    numbers = np.empty((1, 400_001))
    elementary.normal(streams(1), numbers)
    moments = [(numbers**k).mean() for k in (1, 2, 3, 4)]
    np.testing.assert_allclose(moments, [0, 1, 0, 3], atol=0.03)
    assert abs(np.corrcoef(numbers[0, :-1:2], numbers[0, 1::2])[0, 1]) < 0.01
    tail = (abs(numbers) > 3).mean()
    assert tail == pytest.approx(math.erfc(3 / math.sqrt(2)), rel=0.1)


def test_normal_numbers_depend_on_their_stream_and_place_alone() -> None:
    together, alone, fewer = np.empty((3, 5000)), np.empty((1, 5000)), np.empty((1, 4999))
    elementary.normal(streams(3), together)
    elementary.normal(streams(1), alone)
    elementary.normal(streams(1), fewer)
    np.testing.assert_array_equal(together[:1], alone)
    np.testing.assert_array_equal(fewer, alone[:, :4999])
    assert (together[1] != together[0]).any()
    longer = np.empty((1, elementary.NORMALS + 5000), np.float32)
    elementary.normal(streams(1), longer)
    np.testing.assert_array_equal(longer[:, :5000], alone.astype(np.float32))


@pytest.mark.parametrize("word", [0, 2**64 - 1])
def test_the_rarest_words_give_finite_numbers(word: int) -> None:
    words = SimpleNamespace(random_raw=lambda count: np.full(count, word, np.uint64))
    numbers = np.empty((1, 2))
    elementary.normal([SimpleNamespace(bit_generator=words)], numbers)  # type: ignore[list-item]
    assert np.abs(numbers).max() == pytest.approx(0 if word else math.sqrt(106 * math.log(2)))


GRID = np.arange(1, 200_001) / 1999


def drawn() -> np.ndarray:
    out = np.empty((2, 20_001), np.float32)
    elementary.normal(streams(2), out)
    return out


@pytest.mark.parametrize(
    ("compute", "sha256"),
    [
        (lambda: elementary.exp(GRID - 50), "3efc44d4b1c00084"),
        (lambda: elementary.log(GRID), "4ac0bf5652383ed9"),
        (lambda: elementary.sin(GRID - 50), "fbd7c2a0472b67a1"),
        (lambda: elementary.cos(GRID - 50), "11b54e0b7615f280"),
        (lambda: elementary.tan(GRID - 50), "0e3f9575355ede96"),
        (lambda: elementary.power(GRID, GRID[::-1] / 20 - 2), "66a44a9bcb98fa34"),
        (drawn, "ef0fbaf7ffa95be5"),
    ],
    ids=["exp", "log", "sin", "cos", "tan", "power", "normal"],
)
def test_the_bits_are_pinned(compute: Callable[[], Any], sha256: str) -> None:
    # Weights depend on them: where one changes, runs of old versions don't replay.
    assert hashlib.sha256(compute().tobytes()).hexdigest()[:16] == sha256
