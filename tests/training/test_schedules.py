"""Learning rates at the corners of their schedules."""

import math
from itertools import pairwise

import pytest

from dist_vgg.training.schedules import scaled_lr, schedule

LR = 0.1


def rates(kind: str, steps: int, warmup: int = 0) -> list[float]:
    rate = schedule(kind, LR, steps, warmup)
    return [rate(step) for step in range(steps)]


def test_constant() -> None:
    assert rates("constant", 5) == [LR] * 5


def test_step_divides_by_ten_twice() -> None:
    expected = [LR] * 4 + [LR / 10] * 4 + [LR / 100] * 4
    assert rates("step", 12) == pytest.approx(expected)
    assert schedule("step", LR, 12, 0)(12) == pytest.approx(LR / 100)


def test_cosine_goes_from_the_rate_to_zero() -> None:
    found = rates("cosine", 100)
    assert found[0] == LR
    assert found[25] == pytest.approx(LR * (1 + math.cos(math.pi / 4)) / 2)
    assert found[50] == pytest.approx(LR / 2)
    assert found[99] < LR / 1000
    assert all(a > b for a, b in pairwise(found))
    rate = schedule("cosine", LR, 100, 0)
    assert rate(100) == rate(1000) == 0


@pytest.mark.parametrize("kind", ["constant", "step", "cosine"])
def test_warmup_rises_in_a_line_to_the_rate(kind: str) -> None:
    found = rates(kind, 20, warmup=4)
    assert found[:4] == pytest.approx([LR / 4, LR / 2, LR * 3 / 4, LR])
    assert found[4] == LR
    assert found[4:] == pytest.approx(rates(kind, 16))


@pytest.mark.parametrize("warmup", [5, 6, 1000])
@pytest.mark.parametrize("kind", ["step", "cosine"])
def test_warmup_as_long_as_the_run_or_longer_still_reaches_the_rate(kind: str, warmup: int) -> None:
    assert rates(kind, 5, warmup) == pytest.approx([LR * k / 5 for k in range(1, 6)])


def test_a_constant_rate_does_not_depend_on_the_runs_length() -> None:
    assert rates("constant", 5, 8) == rates("constant", 100, 8)[:5]


@pytest.mark.parametrize("kind", ["step", "cosine"])
def test_a_run_of_one_step(kind: str) -> None:
    assert rates(kind, 1, 0) == rates(kind, 1, 20) == [LR]


def test_the_linear_scaling_rule() -> None:
    assert scaled_lr(0.1, batch=512, base_batch=256) == pytest.approx(0.2)
    assert scaled_lr(0.1, batch=32, base_batch=256) == pytest.approx(0.0125)
    assert scaled_lr(0.1, batch=512, base_batch=0) == 0.1
