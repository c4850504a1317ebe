"""The network that is installed with the package."""

from pathlib import Path

import numpy as np
from differing import mnist_images

from data_prep.idx import read_idx
from dist_vgg import load
from dist_vgg.formats.trained import SHIPPED, read_trained


def test_it_is_small_and_what_the_docs_say() -> None:
    weights = read_trained(SHIPPED)
    assert SHIPPED.stat().st_size < 1_000_000
    assert (weights.precision, weights.network["width"]) == ("int8", 0.125)
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "deploy.md").read_text()
    for fact in (f"{SHIPPED.stat().st_size:,} bytes", weights.sha256[:16], weights.made_from[:16]):
        assert fact in guide


def test_it_knows_digits(real_mnist: Path) -> None:
    model = load(SHIPPED)
    assert model.sha256 == read_trained(SHIPPED).sha256
    images = mnist_images(real_mnist, 64, 1000)
    labels = read_idx(real_mnist / "t10k-labels-idx1-ubyte.gz", 1)[:1000]
    assert np.mean(model.predict(images) == labels) >= 0.99
