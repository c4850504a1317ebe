"""Another exchange than the routes in a whole run: the trainer needs no change for it."""

from pathlib import Path

import launcher
import pytest
from sets import each_set
from training import EPOCHS, INSIDE, outcome


@each_set
@pytest.mark.parametrize("ranks", [1, 3])
def test_a_run_with_the_naive_exchange_has_the_same_outcome(
    small: tuple[object, ...], ranks: int, data: Path, tmp_path: Path, reference: Path
) -> None:
    options = ("--data", data, "--out", tmp_path / "run", *small, *EPOCHS)
    status, output, errors = launcher.run(ranks, INSIDE / "naive_train.py", *options)
    assert status == 0, errors
    assert "route naive" in output
    assert "standby none: the exchange is naive" in output
    assert outcome(tmp_path / "run") == outcome(reference)
