"""The update rules of optimizers, for slices of a flat vector; optim.py says what they are.

Every operation works element by element, in place on w and on the state; g stays.
"""

import numpy as np


def sgd(
    w: np.ndarray, g: np.ndarray, v: np.ndarray, lr: float, momentum: float, decay: float,
    nesterov: bool,
) -> None:  # fmt: skip
    """Stochastic gradient descent with momentum."""
    # w, g and v are (n,)
    if decay:
        g = g + decay * w
    v *= momentum
    v += g
    w -= lr * (g + momentum * v) if nesterov else lr * v


def adam(
    w: np.ndarray, g: np.ndarray, m: np.ndarray, v: np.ndarray, rate: float, beta1: float,
    beta2: float, scale: float, eps: float, decay: float,
) -> None:  # fmt: skip
    """Adam; `rate` and `scale` make up for the zeros with which m and v began."""
    # w, g, m and v are (n,)
    if decay:
        g = g + decay * w
    m *= beta1
    m += (1 - beta1) * g
    v *= beta2
    v += (1 - beta2) * (g * g)
    root = np.sqrt(v)
    root *= scale
    root += eps
    w -= rate * (m / root)


def adagrad(
    w: np.ndarray, g: np.ndarray, v: np.ndarray, lr: float, eps: float, decay: float
) -> None:
    """AdaGrad."""
    # w, g and v are (n,)
    if decay:
        g = g + decay * w
    v += g * g
    w -= lr * (g / (np.sqrt(v) + eps))


def move_average(average: np.ndarray, w: np.ndarray, share: float) -> None:
    """Move an average a share of the way to w."""
    # average and w are (n,)
    average += np.float32(share) * (w - average)
