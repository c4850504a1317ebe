"""The stopwatch of a step."""

import time

import pytest

from dist_vgg.runs.clock import SPANS, Clock


def test_the_clock_counts_every_moment_until_a_lap(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    clock = Clock()
    for name, seconds in (("reading", 2), ("update", 3), ("reading", 4)):
        now += seconds
        clock.mark(name)
    now += 50  # after the last mark: nobody's
    assert clock.lap() == {**dict.fromkeys(SPANS, 0), "reading": 6, "update": 3}
    now += 1
    clock.mark("update")
    assert clock.lap() == {**dict.fromkeys(SPANS, 0), "update": 1}
