"""Untrained networks of several shapes, as files of weights have them, for tests of formats."""

from dataclasses import replace
from typing import Any

import numpy as np

from dist_vgg.data.samples import normalise
from dist_vgg.formats.trained import load_network
from dist_vgg.network.sequential import Sequential
from dist_vgg.network.vgg import initialise, vgg
from dist_vgg.state.checksums import parameter_digest
from dist_vgg.state.weights import Weights

# The two usual ones, and one that is neither: more channels, pixels and classes than both.
DIGITS: dict[str, Any] = dict(name="vgg16", size=64, channels=1, classes=10, width=0.05)
COLOURS: dict[str, Any] = dict(name="vgg16", size=96, channels=3, classes=12, width=0.05)
SHORT: dict[str, Any] = dict(name="vgg11", size=64, channels=3, classes=12, width=0.1)
NETWORKS = (DIGITS, COLOURS, SHORT)
NAMES = tuple(f"class {k}" for k in range(12))


def some_weights(network: dict[str, Any]) -> Weights:
    """Random weights whose biases aren't 0, with everything that weights can say."""
    net = vgg(**network)
    params = np.zeros(net.parameter_count, np.float32)
    initialise(net, params, seed=0)
    params += np.random.default_rng(0).normal(0, 0.01, len(params)).astype(np.float32)
    few = network["channels"] == 1
    return Weights(
        network=network,
        mean=(33.3,) if few else (120.5, 110.25, 99.125),
        std=(78.5,) if few else (60.0, 61.5, 70.25),
        source="mnist" if few else "images",
        dataset="ab" * 32,
        step=7,
        sha256=parameter_digest(params),
        params=params,
        kernels="compiled",
        kernels_version=3,
        class_names=() if few else NAMES,
        preparation="digit" if few else "crop",
    )


def ready(network: dict[str, Any]) -> tuple[Weights, Sequential]:
    """Random weights and their network."""
    weights = some_weights(network)
    return weights, load_network(weights, "numpy")


def pixels(network: dict[str, Any], count: int = 3) -> np.ndarray:
    """Random images: (count, size, size, channels) uint8."""
    shape = (count, network["size"], network["size"], network["channels"])
    return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


def logits(net: Sequential, weights: Weights, images: np.ndarray) -> np.ndarray:
    """What our network makes of the images."""
    return net.forward(normalise(images, weights.mean, weights.std))


def close(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal to 1e-4, relative; or to 1e-5 of the largest, since a logit may come out near 0."""
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def same(found: Weights, expected: Weights) -> None:
    """Equal in every field and every bit."""
    assert replace(found, params=expected.params) == expected
    assert found.params.dtype == np.float32
    assert found.params.tobytes() == expected.params.tobytes()
