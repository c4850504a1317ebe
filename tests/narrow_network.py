"""A narrow network with two images, for tests of what looks at a step closely."""

import numpy as np

from dist_vgg.network.layers import StepKey
from dist_vgg.network.sequential import Sequential
from dist_vgg.network.vgg import initialise, vgg

KEY = StepKey(0, 0, np.array([1, 2]))
LABELS = np.array([3, 7])


def network(
    width: float = 0.05, seed: int = 0, kernels: str = "numpy", name: str = "vgg16"
) -> tuple[Sequential, np.ndarray, np.ndarray]:
    """A narrow network as training starts with it, its parameters and its gradient."""
    net = vgg(name, size=32, width=width, kernels=kernels)
    params, grads = np.zeros((2, net.parameter_count), np.float32)
    initialise(net, params, seed)
    net.bind(params, grads)
    return net, params, grads


def images() -> np.ndarray:
    """A digit's kind of image: most of it is one grey level."""
    x = np.full((2, 32, 32, 1), -0.42, np.float32)
    x[:, 8:24, 12:20] = np.random.default_rng(0).standard_normal((2, 16, 8, 1))
    return x
