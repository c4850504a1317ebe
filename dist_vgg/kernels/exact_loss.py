"""The loss with the same bits on every processor: reference.py's functions, computed in float64.

Sums over the classes run from first to last. Results are rounded once, to the type of the logits.
"""

import numpy as np

from dist_vgg.kernels import ordered
from dist_vgg.kernels.elementary import exp, log


def softmax(logits: np.ndarray) -> np.ndarray:
    """The probabilities of the classes."""
    # logits and p are (N,K)
    _, e, sums = _exponentials(logits, axis=1)
    p: np.ndarray = e / sums
    return p.astype(logits.dtype)


def cross_entropy(
    logits: np.ndarray, labels: np.ndarray, total: int, smoothing: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """The loss of each sample, and the gradient of (sum of losses / total) by the logits.

    `total` and `smoothing` are those of `reference.cross_entropy`.
    """
    # logits and dlogits are (N,K), labels is (N,), losses is (N,)
    shifted, e, sums = _exponentials(logits, axis=1)
    log_sum = log(sums[:, 0])
    rows, classes = np.arange(len(labels)), logits.shape[1]
    losses = log_sum - shifted[rows, labels]
    dlogits = e / sums
    if smoothing:
        mean = ordered.total(shifted, axis=1) / classes
        losses = (1 - smoothing) * losses + smoothing * (log_sum - mean)
        dlogits -= smoothing / classes
    dlogits[rows, labels] -= 1 - smoothing
    dlogits *= 1 / total
    return losses.astype(logits.dtype), dlogits.astype(logits.dtype)


def log_sum_exp(x: np.ndarray, axis: int) -> np.ndarray:
    """The logarithm of the sum of exponentials along an axis, which stays with length 1."""
    # x is (..., n, ...), the result (..., 1, ...)
    _, _, sums = _exponentials(x, axis)
    result: np.ndarray = x.max(axis=axis, keepdims=True) + log(sums)
    return result.astype(x.dtype)


def _exponentials(x: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x less its maximum along an axis, the exponentials of that, and their sums, in float64."""
    shifted = x.astype(np.float64)
    shifted -= shifted.max(axis=axis, keepdims=True)
    e = exp(shifted)
    return shifted, e, np.expand_dims(ordered.total(e, axis), axis)
