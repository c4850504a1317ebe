"""Debug mode looks at every array of a step: it names what is not finite, and shows statistics."""

import numpy as np

from dist_vgg.base.errors import Diverged
from dist_vgg.network.layers import StepKey
from dist_vgg.network.sequential import Sequential


class LayerMonitor:
    """Sees what each layer computes: refuses NaN and Inf, and keeps statistics for a table."""

    def __init__(self) -> None:
        self.step = 1  # that is being computed, counted from 1
        self._forward: dict[str, tuple[float, float, float]] = {}  # mean, deviation, zeros
        self._before: np.ndarray | None = None

    def __call__(self, direction: str, layer: str, array: np.ndarray) -> None:
        """Take the output (forward) or the gradient of the input (backward) of a layer.

        Raises Diverged, naming the layer, where a number is not finite.
        """
        bad = nonfinite(array)
        if bad:
            raise Diverged(
                f"step {self.step}: {bad} in the {_what(direction)} of layer {layer}; "
                "lower --lr or check the data"
            )
        if direction == "forward":
            share = 1 - np.count_nonzero(array) / array.size
            self._forward[layer] = (float(array.mean()), float(array.std()), share)

    def before_update(self, params: np.ndarray) -> None:
        """Remember the parameters, so that `table` can tell how far the update moved them."""
        self._before = params.copy()

    def table(self, net: Sequential, params: np.ndarray, grad: np.ndarray) -> str:
        """Of the step just done: the output of each layer, and its weights' gradient and update."""
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
    """ "NaN" or "Inf" where an array holds one, else ""."""
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
            found.append(f"the {_what(direction)} of layer {layer}")

    logits = net.forward(x, key, watch=look)
    _, dlogits = net.ops.cross_entropy(logits, labels, len(labels))
    net.backward(dlogits, watch=look)
    found += [f"the gradient of {s.name}" for s in net.slots if nonfinite(grad[s.lo : s.hi])]
    return found[0] if found else ""


def _what(direction: str) -> str:
    return "output" if direction == "forward" else "gradient"
