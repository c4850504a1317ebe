"""A network: layers one after the other, over flat vectors of parameters and gradients.

All parameters are in one vector, in layer order, and all gradients in another; layers hold views of
both. Checkpoints, digests and the exchange see the vectors and no layers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile

import numpy as np

from dist_vgg.kernels import numpy_set
from dist_vgg.kernels.bfloat16_format import widened
from dist_vgg.kernels.protocol import Kernels
from dist_vgg.network.layers import Conv, Layer, Linear, MaxPool, PooledConv, ReLU, Shape, StepKey

Watch = Callable[[str, str, np.ndarray], None]  # ("forward" | "backward", layer, array)
OnLayer = Callable[[str, Layer], None]  # ("forward" | "backward", a layer that is done)
OnSlice = Callable[[int, int], None]  # a slice that forward needs, or backward has finished
OnFactors = Callable[[int, np.ndarray, np.ndarray], None]  # where a layer begins, its x and dy


@dataclass(frozen=True)
class Slot:
    """The place of one parameter array in the flat vector: elements lo to hi."""

    name: str  # "conv1_1.weight"
    shape: tuple[int, ...]
    lo: int
    hi: int
    fan_in: int

    @property
    def is_bias(self) -> bool:
        return len(self.shape) == 1


class Sequential:
    """A network: layers one after the other, over flat vectors of parameters and gradients."""

    def __init__(
        self, layers: Sequence[Layer], input_shape: Shape, ops: Kernels = numpy_set
    ) -> None:
        """All layers compute with the kernel set `ops`; so should the loss of their output."""
        self.layers = list(layers)
        self.input_shape = input_shape
        self.slots: list[Slot] = []
        self._places: list[tuple[Layer, list[Slot]]] = []
        offset = 0
        for layer in self.layers:
            slots = []
            shapes = layer.parameter_shapes()
            for name, shape in shapes.items():
                size = int(np.prod(shape))
                fan_in = int(np.prod(shapes["weight"][:-1]))
                slots.append(Slot(f"{layer.name}.{name}", shape, offset, offset + size, fan_in))
                offset += size
            self._places.append((layer, slots))
            self.slots += slots
        self.parameter_count = offset
        last = takewhile(
            lambda place: not place[1] or isinstance(place[0], Linear), reversed(self._places)
        )
        # The weights of the fully connected layers that nothing but their like comes behind.
        self.products = [slots[0] for _, slots in last if slots][::-1]
        self._merged = _merged(self._places)
        self._ran = self._places  # by the last forward pass
        self.compute_with(ops)

    def compute_with(self, ops: Kernels) -> None:
        """Let all layers compute with another kernel set from now on."""
        self.ops = ops
        for layer in self.layers:
            layer.ops = ops

    def layer_starts(self) -> dict[str, int]:
        """Where each layer begins in the flat vector: at its weights, before the bias."""
        return {slot.name.partition(".")[0]: slot.lo for slot in self.slots if not slot.is_bias}

    def bind(self, params: np.ndarray, grads: np.ndarray) -> None:
        """Let the layers use these flat vectors, each of `parameter_count` numbers.

        It takes microseconds, so each micro-batch can have a gradient vector of its own.
        """
        for layer, slots in self._places:
            layer.bind(
                [params[s.lo : s.hi].reshape(s.shape) for s in slots],
                [grads[s.lo : s.hi].reshape(s.shape) for s in slots],
            )

    def forward(
        self,
        x: np.ndarray,
        key: StepKey | None = None,
        watch: Watch | None = None,
        need: OnSlice | None = None,
        done: OnLayer | None = None,
    ) -> np.ndarray:
        """From images (N,H,W,C) to logits (N,K); with a key, layers keep what backward needs.

        Where no `watch` is to see the output of each layer, a block's last ones are computed as
        one, with the same bits.
        """
        self._ran = self._places if watch else self._merged
        for layer, slots in self._ran:
            if need and slots:
                need(slots[0].lo, slots[-1].hi)
            x = layer.forward(x, key)
            if watch:
                watch("forward", layer.name, widened(x))
            if done:
                done("forward", layer)
        return x

    def backward(
        self,
        dy: np.ndarray,
        grad_ready: OnSlice | None = None,
        watch: Watch | None = None,
        done: OnLayer | None = None,
        factors: OnFactors | None = None,
    ) -> None:
        """From the gradient of the logits, (N,K), to that of all parameters, as forward ran.

        `grad_ready` is called with each finished slice; slices finish from the end of the flat
        vector to its start, without gaps. Who takes the `factors` of the layers in `products`
        computes their gradients from them: those are not written here.
        """
        grad: np.ndarray | None = dy
        for layer, slots in reversed(self._ran):
            assert grad is not None
            if factors and isinstance(layer, Linear) and slots[0] in self.products:
                grad = layer.backward(grad, partial(factors, slots[0].lo))
            else:
                grad = layer.backward(grad)
            if watch and grad is not None:
                watch("backward", layer.name, widened(grad))
            if done:
                done("backward", layer)
            if grad_ready and slots:
                grad_ready(slots[0].lo, slots[-1].hi)


def _merged(places: Sequence[tuple[Layer, list[Slot]]]) -> list[tuple[Layer, list[Slot]]]:
    """The layers that are computed, where those of a convolution, pooling and rectifier are one."""
    found: list[tuple[Layer, list[Slot]]] = []
    for layer, slots in places:
        found.append((layer, slots))
        match [one for one, _ in found[-3:]]:
            case [Conv(relu=False, need_dx=True) as conv, MaxPool(), ReLU()]:
                found[-3:] = [(PooledConv(conv), found[-3][1])]
    return found
