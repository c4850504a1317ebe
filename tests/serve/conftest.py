"""A server of an untrained network, as a user starts it."""

import signal
from collections.abc import Iterator
from pathlib import Path

import launcher
import pytest
from predicting import some_weights
from serving import Served, started

from dist_vgg.state.weights import save_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "weights.h5"
    save_weights(path, some_weights())
    return path


@pytest.fixture(scope="module")
def server(weights: Path) -> Iterator[Served]:
    """A server that says nothing while it serves, whatever it is sent."""
    process, served = started(weights)
    try:
        yield served
    finally:
        process.send_signal(signal.SIGINT)
        status, output, errors = launcher.finish(process)
    assert (status, output) == (130, "")
    first, *others = errors.splitlines()
    assert first.startswith(f"dist_vgg.serve: weights: {weights} (vgg16 of width 0.05, ")
    assert others == ["dist_vgg.serve: interrupted"]
