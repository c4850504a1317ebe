"""The gradient check compares the gradients of backward with finite differences of the loss."""

from collections.abc import Callable

import numpy as np

from dist_vgg.base.errors import UserError
from dist_vgg.network.layers import StepKey
from dist_vgg.network.sequential import Sequential, Slot

# Lengths of a finite-difference step, in float64. A kink of a rectifier between the two points
# spoils one length and not a shorter one; a wrong gradient is wrong at all of them.
LENGTHS = (1e-6, 1e-7, 1e-8)
AGREEMENT = 1e-4  # relative
ROUNDING = 1e-11  # a smaller difference of two losses is nothing but rounding


def check_gradients(
    net: Sequential, params: np.ndarray, x: np.ndarray, labels: np.ndarray, key: StepKey
) -> float:
    """Check the gradient of each parameter array on the given samples, in float64.

    Compares the derivative along one random direction for each array. Returns the largest relative
    error; raises UserError, naming the array, where the error is large. Bind the network to its own
    vectors again afterwards.
    """
    rng = np.random.default_rng(key.seed)
    point = params.astype(np.float64)
    for slot in net.slots:
        if slot.is_bias:
            # Fresh biases are zero, so where a narrow layer is silent the next one's outputs
            # are exactly 0: the rectifier's kink, where there is no derivative to compare.
            point[slot.lo : slot.hi] += rng.uniform(1e-3, 1e-2, slot.hi - slot.lo)
    grad = np.zeros_like(point)
    net.bind(point, grad)
    x = x.astype(np.float64)

    def loss() -> tuple[float, np.ndarray]:
        losses, dlogits = net.ops.cross_entropy(net.forward(x, key), labels, len(labels))
        return float(losses.sum()) / len(labels), dlogits

    net.backward(loss()[1])
    return max(_check_slot(slot, point, grad, lambda: loss()[0], rng) for slot in net.slots)


def _check_slot(
    slot: Slot,
    point: np.ndarray,
    grad: np.ndarray,
    loss: Callable[[], float],
    rng: np.random.Generator,
) -> float:
    """The relative error of one array's gradient; raises UserError where it is large.

    `point` holds the parameters that `loss` is computed at.
    """
    part = slice(slot.lo, slot.hi)
    kept = point[part].copy()
    # Along the gradient's own signs the derivative can't vanish by chance. Where the gradient is
    # zero the direction must not be, or a gradient that is never written would go unnoticed.
    direction = np.where(grad[part] < 0, -1, 1) * rng.random(slot.hi - slot.lo)
    direction /= np.linalg.norm(direction)
    error = 0.0
    for length in LENGTHS:
        point[part] = kept + length * direction
        ahead = loss()
        point[part] = kept - length * direction
        found = ahead - loss()
        expected = 2 * length * float(grad[part] @ direction)
        scale = max(abs(expected), abs(found))
        if scale <= ROUNDING:
            break  # this length tells nothing, and a shorter one even less
        error = abs(found - expected) / scale
        slopes = (expected / 2 / length, found / 2 / length)
        if error <= AGREEMENT:
            break
    point[part] = kept
    if error > AGREEMENT:
        raise UserError(
            f"the gradient of {slot.name} is wrong: along one direction backward says "
            f"{slopes[0]:.6g}, finite differences say {slopes[1]:.6g}"
        )
    return error
