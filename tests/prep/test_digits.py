"""scikit-learn's digits, the stand-in for MNIST."""

from pathlib import Path

import numpy as np
import pytest

from data_prep.sources import load
from dist_vgg.base.errors import UserError


def test_digits_are_split_by_their_index() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    raw = load("digits", None, print)
    everything = datasets.load_digits()
    assert raw.source == "digits"
    assert len(raw.ids["train"]) + len(raw.ids["test"]) == 1797
    assert raw.ids["test"][:3].tolist() == [0, 5, 10]
    assert not set(raw.ids["train"]) & set(raw.ids["test"])
    for split, rows in raw.ids.items():
        np.testing.assert_array_equal(raw.labels[split], everything.target[rows])
        np.testing.assert_allclose(
            raw.pictures[split].array, everything.images[rows] * 255 / 16, atol=0.5
        )
    assert raw.pictures["train"].array.max() == 255


def test_digits_have_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--raw"):
        load("digits", tmp_path, print)
