"""Debug mode finds where numbers go wrong, and shows what each layer does."""

import numpy as np

from dist_vgg.base.errors import Diverged, UserError
from dist_vgg.kernels import reference as F
from dist_vgg.network.layers import Sequential, StepKey

# Lengths of a finite-difference step, in float64. A rectifier's kink between the two points
# spoils one length and not a shorter one; a wrong gradient is wrong at all of them.
LENGTHS = (1e-6, 1e-7, 1e-8)
AGREEMENT = 1e-4  # relative
ROUNDING = 1e-11  # below this a difference of two losses is nothing but rounding


class Watcher:
    """Sees every array of forward and backward: refuses NaN and Inf, remembers statistics."""

    def __init__(self) -> None:
        self.step = 1  # the one that is being done
        self._forward: dict[str, tuple[float, float, float]] = {}
        self._before: np.ndarray | None = None

    def __call__(self, direction: str, layer: str, array: np.ndarray) -> None:
        """Take the output (forward) or the input's gradient (backward) of a layer.

        Raises UserError that names the layer where a number is not finite.
        """
        bad = nonfinite(array)
        if bad:
            what = "output" if direction == "forward" else "gradient"
            raise Diverged(
                f"step {self.step}: {bad} in the {what} of layer {layer}; "
                "lower --lr or check the data"
            )
        if direction == "forward":
            share = 1 - np.count_nonzero(array) / array.size
            self._forward[layer] = (float(array.mean()), float(array.std()), share)

    def before_update(self, params: np.ndarray) -> None:
        """Remember the parameters, so that `table` can tell how far they went."""
        self._before = params.copy()

    def table(self, net: Sequential, params: np.ndarray, grad: np.ndarray) -> str:
        """Each layer's output, and its weights' gradient and update, of the step just done."""
        assert self._before is not None
        lines = [
            f"{'layer':<10} {'mean':>10} {'deviation':>10} {'zeros':>7} "
            f"{'gradient':>10} {'update/weight':>13}"
        ]
        weights = {s.name.split(".")[0]: s for s in net.slots if not s.is_bias}
        for layer, (mean, deviation, zeros) in self._forward.items():
            line = f"{layer:<10} {mean:>10.3g} {deviation:>10.3g} {zeros:>7.1%}"
            if layer in weights:
                part = slice(weights[layer].lo, weights[layer].hi)
                moved = np.linalg.norm(params[part] - self._before[part])
                norm = np.linalg.norm(self._before[part])
                line += f" {np.linalg.norm(grad[part]):>10.3g} {moved / norm:>13.3g}"
            lines.append(line)
        return "\n".join(lines)


def nonfinite(array: np.ndarray) -> str:
    """ "NaN" or "Inf" where an array holds one, else nothing."""
    if np.isfinite(array).all():
        return ""
    return "NaN" if np.isnan(array).any() else "Inf"


def first_nonfinite(
    net: Sequential, grad: np.ndarray, x: np.ndarray, labels: np.ndarray, key: StepKey
) -> str:
    """Repeat a micro-batch to name the first array that is not finite; "" where all are.

    `grad` is the flat vector that the network writes its gradients to.
    """
    found: list[str] = []

    def look(direction: str, layer: str, array: np.ndarray) -> None:
        if not found and nonfinite(array):
            what = "output" if direction == "forward" else "gradient"
            found.append(f"the {what} of layer {layer}")

    logits = net.forward(x, key, watch=look)
    _, dlogits = F.cross_entropy(logits, labels, len(labels))
    net.backward(dlogits, watch=look)
    found += [f"the gradient of {s.name}" for s in net.slots if nonfinite(grad[s.lo : s.hi])]
    return found[0] if found else ""


def check_gradients(
    net: Sequential, params: np.ndarray, x: np.ndarray, labels: np.ndarray, key: StepKey
) -> float:
    """Compare each parameter array's gradient with a finite difference, all in float64.

    For each array the derivative along one random direction is taken, on the given samples.
    Returns the largest relative error; raises UserError naming the array where it is large.
    The network must be bound to its own vectors again afterwards.
    """
    random = np.random.default_rng(key.seed)
    point = params.astype(np.float64)
    for slot in net.slots:
        if slot.is_bias:
            # Fresh biases are zero, so where a narrow layer is silent the next one's outputs
            # are exactly 0: the rectifier's kink, where there is no derivative to compare.
            point[slot.lo : slot.hi] += random.uniform(1e-3, 1e-2, slot.hi - slot.lo)
    grad = np.zeros_like(point)
    net.bind(point, grad)
    x = x.astype(np.float64)

    def loss() -> tuple[float, np.ndarray]:
        losses, dlogits = F.cross_entropy(net.forward(x, key), labels, len(labels))
        return float(losses.sum()) / len(labels), dlogits

    net.backward(loss()[1])
    worst = 0.0
    for slot in net.slots:
        part = slice(slot.lo, slot.hi)
        kept = point[part].copy()
        # Along the gradient's own signs the derivative can't vanish by chance. Where the
        # gradient says zero the direction must not, or one never written would go unseen.
        direction = np.where(grad[part] < 0, -1, 1) * random.random(slot.hi - slot.lo)
        direction /= np.linalg.norm(direction)
        error = 0.0
        for length in LENGTHS:
            ahead, behind = (
                (np.add(kept, side * length * direction, out=point[part]), loss()[0])[1]
                for side in (1, -1)
            )
            found = ahead - behind
            expected = 2 * length * float(grad[part] @ direction)
            scale = max(abs(expected), abs(found))
            if scale <= ROUNDING:
                break  # this length tells nothing, and a shorter one even less
            error = abs(found - expected) / scale
            slopes = (expected / 2 / length, found / 2 / length)
            if error <= AGREEMENT:
                break
        if error > AGREEMENT:
            raise UserError(
                f"the gradient of {slot.name} is wrong: along one direction backward says "
                f"{slopes[0]:.6g}, finite differences say {slopes[1]:.6g}"
            )
        point[part] = kept
        worst = max(worst, error)
    return worst
