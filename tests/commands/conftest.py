"""What the tests of several commands share."""

from pathlib import Path

import pytest
from predicting import some_weights

from dist_vgg.state.weights import save_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "weights.h5"
    save_weights(path, some_weights())
    return path
