"""A layer is an operation with a name, views of its parameters, and what backward must remember.

All parameters of a network lie in one flat vector, in layer order, and so do all gradients;
layers hold views. Layers know nothing of ranks, files or optimizers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from dist_vgg.base.random import philox
from dist_vgg.kernels import reference as F
from dist_vgg.kernels import winograd


@dataclass(frozen=True)
class StepKey:
    """Where in the training a forward pass stands; dropout draws its masks from this."""

    seed: int
    step: int
    ids: np.ndarray  # (N,) sample ids


@dataclass(frozen=True)
class Slot:
    """One parameter array's place in the flat vector."""

    name: str  # "conv1_1.weight"
    shape: tuple[int, ...]
    lo: int
    hi: int
    fan_in: int

    @property
    def is_bias(self) -> bool:
        return len(self.shape) == 1


Shape = tuple[int, ...]  # of one sample: (H,W,C), or (C,) after flattening
Watch = Callable[[str, str, np.ndarray], None]  # ("forward" | "backward", layer, array)
OnSlice = Callable[[int, int], None]  # a slice that forward needs, or backward has finished


class Layer:
    """The base of all layers: no parameters, nothing remembered."""

    kind = "other"  # under which its time is counted

    def __init__(self, name: str) -> None:
        self.name = name
        self._kept: tuple[np.ndarray, ...] = ()

    def _keep(self, key: StepKey | None, *arrays: np.ndarray) -> None:
        """Remember what backward needs; in evaluation nothing, to save memory."""
        self._kept = arrays if key else ()

    def _recall(self) -> tuple[np.ndarray, ...]:
        """Hand over what forward remembered, and forget it."""
        kept, self._kept = self._kept, ()
        assert kept, f"{self.name}: backward without a forward pass of training"
        return kept

    def parameter_shapes(self) -> dict[str, Shape]:
        """Names and shapes of the parameters, in the order in which they lie in the vector."""
        return {}

    def output_shape(self, shape: Shape) -> Shape:
        """The shape of one output sample for that of one input sample."""
        return shape

    def bind(self, params: Sequence[np.ndarray], grads: Sequence[np.ndarray]) -> None:
        """Take views of the parameters, and of where their gradients are to be written."""

    def forward(self, x: np.ndarray, key: StepKey | None) -> np.ndarray:
        """Compute the output; with a key, as a part of training, else for evaluation."""
        raise NotImplementedError

    def backward(self, dy: np.ndarray) -> np.ndarray | None:
        """Write the gradients of the parameters; return that of the input."""
        raise NotImplementedError


class _Affine(Layer):
    """A layer with a weight and a bias."""

    weight_shape: Shape

    def parameter_shapes(self) -> dict[str, Shape]:
        return {"weight": self.weight_shape, "bias": self.weight_shape[-1:]}

    def bind(self, params: Sequence[np.ndarray], grads: Sequence[np.ndarray]) -> None:
        self.w, self.b = params
        self.dw, self.db = grads


class Conv(_Affine):
    """3x3 convolution that keeps the image's size, and a rectifier if wanted.

    The rectifier works on what the convolution has just written, while it is in the cache.
    """

    kind = "conv"

    def __init__(
        self,
        name: str,
        channels: int,
        filters: int,
        relu: bool = False,
        need_dx: bool = True,
        fast: bool = True,
    ) -> None:
        super().__init__(name)
        self.weight_shape = (3, 3, channels, filters)
        self.relu = relu
        self.need_dx = need_dx
        self.fast = fast

    def output_shape(self, shape: Shape) -> Shape:
        return (*shape[:2], self.weight_shape[-1])

    def forward(self, x: np.ndarray, key: StepKey | None) -> np.ndarray:
        y: np.ndarray = self._kernel(x).conv2d_forward(x, self.w, self.b, self.relu)
        self._keep(key, x, *[y] * self.relu)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray | None:
        x, *y = self._recall()
        dx: np.ndarray | None = self._kernel(x).conv2d_backward(
            dy, x, self.w, self.dw, self.db, self.need_dx, *y
        )
        return dx

    def _kernel(self, x: np.ndarray) -> ModuleType:
        """The module whose convolution serves an input: a rule of shapes, for equal bits."""
        fast = self.fast and winograd.suits(x.shape, self.weight_shape[-1])
        return winograd if fast else F


class Linear(_Affine):
    """Fully connected layer."""

    kind = "fc"

    def __init__(self, name: str, inputs: int, outputs: int) -> None:
        super().__init__(name)
        self.weight_shape = (inputs, outputs)

    def output_shape(self, shape: Shape) -> Shape:
        return self.weight_shape[-1:]

    def forward(self, x: np.ndarray, key: StepKey | None) -> np.ndarray:
        self._keep(key, x)
        return F.linear_forward(x, self.w, self.b)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        (x,) = self._recall()
        return F.linear_backward(dy, x, self.w, self.dw, self.db)


class ReLU(Layer):
    """Rectifier, in place on its input."""

    def forward(self, x: np.ndarray, key: StepKey | None) -> np.ndarray:
        y = F.relu_forward(x)
        self._keep(key, y)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        (y,) = self._recall()
        return F.relu_backward(dy, y)


class MaxPool(Layer):
    """2x2 max-pooling."""

    kind = "pool"

    def output_shape(self, shape: Shape) -> Shape:
        return (shape[0] // 2, shape[1] // 2, shape[2])

    def forward(self, x: np.ndarray, key: StepKey | None) -> np.ndarray:
        y, choice = F.maxpool_forward(x)
        self._keep(key, choice)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        (choice,) = self._recall()
        return F.maxpool_backward(dy, choice)


class Flatten(Layer):
    """(N,H,W,C) to (N,H*W*C)."""

    def output_shape(self, shape: Shape) -> Shape:
        return (int(np.prod(shape)),)

    def forward(self, x: np.ndarray, key: StepKey | None) -> np.ndarray:
        self.shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        return dy.reshape(self.shape)


class Dropout(Layer):
    """Dropout, whose mask for a sample depends on seed, layer, step and sample id only."""

    def __init__(self, name: str, rate: float) -> None:
        super().__init__(name)
        self.rate = rate

    def forward(self, x: np.ndarray, key: StepKey | None) -> np.ndarray:
        if not key or not self.rate:
            self._kept = ()
            return x
        keep = np.stack([self._mask(key, int(i), x.shape[1]) for i in key.ids])
        self._keep(key, keep)
        return F.dropout_forward(x, keep, self.rate)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        if not self.rate:
            return dy
        (keep,) = self._recall()
        return F.dropout_forward(dy, keep, self.rate)

    def _mask(self, key: StepKey, sample_id: int, count: int) -> np.ndarray:
        """Which of `count` units a sample keeps: 16 random bits for each, against the rate."""
        stream = philox(key.seed, f"dropout/{self.name}", key.step, sample_id)
        words = stream.random_raw(-(-count // 4)).astype("<u8").view("<u2")[:count]
        return words >= round(self.rate * 65536)


class Sequential:
    """A network: layers one after the other, over flat vectors of parameters and gradients."""

    def __init__(self, layers: Sequence[Layer], input_shape: Shape) -> None:
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

    def bind(self, params: np.ndarray, grads: np.ndarray) -> None:
        """Let the layers use these flat vectors, each of `parameter_count` numbers.

        It costs microseconds, so that each micro-batch can have a gradient vector of its own.
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
    ) -> np.ndarray:
        """From images (N,H,W,C) to logits (N,K); with a key, layers keep what backward needs."""
        for layer, slots in self._places:
            if need and slots:
                need(slots[0].lo, slots[-1].hi)
            x = layer.forward(x, key)
            if watch:
                watch("forward", layer.name, x)
        return x

    def backward(
        self, dy: np.ndarray, grad_ready: OnSlice | None = None, watch: Watch | None = None
    ) -> None:
        """From the logits' gradient to all parameters', announcing each finished slice.

        Slices finish from the end of the flat vector to its start, without gaps.
        """
        grad: np.ndarray | None = dy
        for layer, slots in reversed(self._places):
            assert grad is not None
            grad = layer.backward(grad)
            if watch and grad is not None:
                watch("backward", layer.name, grad)
            if grad_ready and slots:
                grad_ready(slots[0].lo, slots[-1].hi)
