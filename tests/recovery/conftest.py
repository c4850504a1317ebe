"""What a test has started ends with it."""

import os
from collections.abc import Iterator

import fake_jobs
import pytest


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test has started is known by a variable, and ended with it."""
    monkeypatch.setenv("TEST_ELASTIC", str(os.getpid()))
    yield
    fake_jobs.end_all()
