"""The gradient check of bfloat16: each layer against the reference in float64, of the same numbers.

Finite differences say nothing here, since rounding makes the loss a staircase. And a reference that
goes its own way through the network soon takes other branches of rectifiers and poolings. So each
layer is compared by itself, on the numbers that it is given.
"""

from collections.abc import Sequence

import numpy as np

from dist_vgg.base.errors import UserError
from dist_vgg.kernels import reference
from dist_vgg.kernels.bfloat16_format import SMALLEST, narrowed, widened
from dist_vgg.kernels.protocol import Kernels
from dist_vgg.network.layers import Layer, StepKey
from dist_vgg.network.sequential import Sequential

AGREEMENT = 2.0**-7  # relative, of an array's length: a result is rounded to 2**-9


def check_rounded(
    net: Sequential, params: np.ndarray, x: np.ndarray, labels: np.ndarray, key: StepKey
) -> float:
    """Check what each layer computes and its gradients, on the given samples.

    Returns the largest relative error; raises UserError, naming the layer, where it is large. Bind
    the network to its own vectors again afterwards.
    """
    net.bind(params, np.zeros_like(params))
    ops, checked = net.ops, _Checked(net.ops)
    net.compute_with(checked)  # type: ignore[arg-type]  # the rest of the protocol is that of ops
    try:
        logits = net.forward(x, key, checked.watch, done=checked.done)
        dlogits = net.ops.cross_entropy(logits, labels, len(labels))[1]
        net.backward(dlogits, watch=checked.watch, done=checked.done)
    finally:
        net.compute_with(ops)
    return checked.worst


class _Checked:
    """A kernel set that compares its products with the reference's."""

    def __init__(self, ops: Kernels) -> None:
        self._ops = ops
        self._error = 0.0  # of the layer that is being computed
        self.worst = 0.0

    def __getattr__(self, name: str) -> object:
        return getattr(self._ops, name)

    def watch(self, direction: str, layer: str, array: np.ndarray) -> None:
        """Nothing: whoever watches has each layer computed by itself."""

    def done(self, direction: str, layer: Layer) -> None:
        """Raise UserError where a layer that has been computed was wrong."""
        self.worst, error, self._error = max(self.worst, self._error), self._error, 0.0
        if not error <= AGREEMENT:
            what = "output" if direction == "forward" else "gradient"
            raise UserError(
                f"the {what} of layer {layer.name} is wrong: bfloat16 is off by {error:.2g} of the "
                "length that the reference finds"
            )

    def conv2d_forward(
        self, x: np.ndarray, w: np.ndarray, b: np.ndarray, relu: bool = False
    ) -> np.ndarray:
        y = self._ops.conv2d_forward(x, w, b, relu)
        x, w = _exact(x), _exact(w)
        self._compare(y, reference.conv2d_forward(x, w, b.astype(np.float64), relu))
        return y

    def conv2d_backward(
        self,
        dy: np.ndarray,
        x: np.ndarray,
        w: np.ndarray,
        dw: np.ndarray,
        db: np.ndarray,
        need_dx: bool = True,
        y: np.ndarray | None = None,
        counts: Sequence[int] = (),
    ) -> np.ndarray | None:
        dy_, mask = _exact(dy), None if y is None else _exact(y)  # dy may be overwritten
        dx = self._ops.conv2d_backward(dy, x, w, dw, db, need_dx, y, counts)
        dw_, db_ = np.zeros(dw.shape), np.zeros(db.shape)
        right = reference.conv2d_backward(dy_, _exact(x), _exact(w), dw_, db_, need_dx, mask)
        if dx is not None and right is not None:
            self._compare(dx, right)
        self._compare(dw, dw_)
        self._compare(db, db_)
        return dx

    def linear_forward(self, x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
        y = self._ops.linear_forward(x, w, b)
        self._compare(y, _exact(x) @ _exact(w) + b)
        return y

    def linear_backward(
        self,
        dy: np.ndarray,
        x: np.ndarray,
        w: np.ndarray,
        dw: np.ndarray,
        db: np.ndarray,
        counts: Sequence[int] = (),
    ) -> np.ndarray:
        dx = self._ops.linear_backward(dy, x, w, dw, db, counts)
        dy = _exact(dy)
        self._compare(dx, dy @ _exact(w).T)
        self._compare(dw, _exact(x).T @ dy)
        self._compare(db, dy.sum(axis=0))
        return dx

    def _compare(self, found: np.ndarray, right: np.ndarray) -> None:
        """Note how far a result is from the reference's."""
        off = np.linalg.norm(widened(found).astype(np.float64) - right)
        # What is rounded to 0 must not count.
        length = max(np.linalg.norm(right), 2**8 * SMALLEST * right.size**0.5)
        self._error = float(np.maximum(self._error, off / length))  # NaN stays NaN


def _exact(array: np.ndarray) -> np.ndarray:
    """The numbers of an array as they are multiplied, in float64."""
    rounded = array if array.dtype == np.uint16 else narrowed(array)
    return widened(rounded).astype(np.float64)
