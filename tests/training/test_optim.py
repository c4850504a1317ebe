"""Optimizers against their formulas, number by number."""

import math
from itertools import pairwise

import numpy as np
import pytest

from dist_vgg.training import optim

LR = 0.1


def plain(w: float, gs: list[float]) -> float:
    for g in gs:
        w = w - LR * g
    return w


def momentum(w: float, gs: list[float]) -> float:
    v = 0.0
    for g in gs:
        v = 0.9 * v + g
        w = w - LR * v
    return w


def nesterov(w: float, gs: list[float]) -> float:
    v = 0.0
    for g in gs:
        v = 0.9 * v + g
        w = w - LR * (g + 0.9 * v)
    return w


def adam(w: float, gs: list[float]) -> float:
    m = s = 0.0
    for t, g in enumerate(gs, start=1):
        m = 0.8 * m + 0.2 * g
        s = 0.99 * s + 0.01 * g**2
        w = w - LR * (m / (1 - 0.8**t)) / (math.sqrt(s / (1 - 0.99**t)) + 1e-3)
    return w


def adagrad(w: float, gs: list[float]) -> float:
    s = 0.0
    for g in gs:
        s += g**2
        w = w - LR * g / (math.sqrt(s) + 1e-3)
    return w


RULES = {
    "plain": (optim.SGD(momentum=0.0), plain),
    "momentum": (optim.SGD(momentum=0.9), momentum),
    "nesterov": (optim.SGD(momentum=0.9, nesterov=True), nesterov),
    "adam": (optim.Adam(beta1=0.8, beta2=0.99, eps=1e-3), adam),
    "adagrad": (optim.AdaGrad(eps=1e-3), adagrad),
}


def zeros(optimizer: optim.Optimizer, like: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(np.zeros_like(like) for _ in optimizer.state_names)


@pytest.mark.parametrize("rule", RULES)
def test_the_written_out_formula(rule: str) -> None:
    optimizer, reference = RULES[rule]
    rng = np.random.default_rng(0)
    start, gs = rng.standard_normal(20), rng.standard_normal((7, 20))
    w, state = start.copy(), zeros(optimizer, start)
    for step, g in enumerate(gs, start=1):
        optimizer.update(w, g.copy(), state, LR, step, decay=0.0)
    expected = [reference(a, b) for a, b in zip(start.tolist(), gs.T.tolist(), strict=True)]
    np.testing.assert_allclose(w, expected, rtol=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_decay_joins_the_gradient(rule: str) -> None:
    optimizer, _ = RULES[rule]
    rng = np.random.default_rng(0)
    w = rng.standard_normal(20)
    expected = w.copy()
    state, expected_state = zeros(optimizer, w), zeros(optimizer, w)
    for step in range(1, 5):
        g = rng.standard_normal(20)
        optimizer.update(expected, g + 0.3 * expected, expected_state, LR, step, decay=0.0)
        optimizer.update(w, g, state, LR, step, decay=0.3)
    np.testing.assert_allclose(w, expected, rtol=1e-12)


@pytest.mark.parametrize("decay", [0.0, 5e-4])
@pytest.mark.parametrize("rule", RULES)
def test_cutting_the_vector_does_not_change_a_bit(rule: str, decay: float) -> None:
    optimizer, _ = RULES[rule]
    rng = np.random.default_rng(0)
    whole = rng.standard_normal(1003).astype(np.float32)
    cut = whole.copy()
    whole_state, cut_state = zeros(optimizer, whole), zeros(optimizer, cut)
    # SIMD treats the ends of an array apart, so cuts of odd lengths are the interesting ones.
    edges = [0, 1, 2, 17, 100, 101, 512, 999, 1003]
    for step in range(1, 6):
        g = rng.standard_normal(1003).astype(np.float32)
        optimizer.update(whole, g.copy(), whole_state, LR, step, decay)
        for lo, hi in pairwise(edges):
            part = tuple(s[lo:hi] for s in cut_state)
            optimizer.update(cut[lo:hi], g[lo:hi].copy(), part, LR, step, decay)
    assert whole.dtype == np.float32
    assert whole.tobytes() == cut.tobytes()
    for a, b in zip(whole_state, cut_state, strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("rule", RULES)
def test_parameters_and_state_change_in_place(rule: str) -> None:
    optimizer, _ = RULES[rule]
    w = np.ones(3, np.float32)
    state = zeros(optimizer, w)
    optimizer.update(w, np.ones(3, np.float32), state, LR, 1, 0.0)
    assert (w < 1).all()
    assert all(s.any() for s in state)


def test_a_gradient_of_zero_stops_nobody() -> None:
    for optimizer, _ in RULES.values():
        w = np.ones(3, np.float32)
        optimizer.update(w, np.zeros(3, np.float32), zeros(optimizer, w), LR, 1, 0.0)
        assert w.tolist() == [1, 1, 1]


def test_an_average_follows_fast_at_first_and_then_at_its_decay() -> None:
    average, w = np.zeros(3, np.float32), np.ones(3, np.float32)
    optim.update_average(average, w, 0.9, 1)
    np.testing.assert_allclose(average, 1 - 2 / 11, rtol=1e-6)
    optim.update_average(average, w, 0.9, 10**6)
    np.testing.assert_allclose(average, 1 - 0.9 * 2 / 11, rtol=1e-6)
    assert average.dtype == np.float32
    np.testing.assert_array_equal(w, 1)
