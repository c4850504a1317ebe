"""A layer is an operation with a name, views of its parameters, and what backward needs of forward.

Layers know nothing of ranks, files or optimizers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dist_vgg.base.random import philox
from dist_vgg.kernels import numpy_set
from dist_vgg.kernels.bfloat16_format import widened
from dist_vgg.kernels.protocol import Kernels


@dataclass(frozen=True)
class StepKey:
    """The place of a forward pass in training, from which dropout draws its masks."""

    seed: int
    step: int
    ids: np.ndarray  # (N,) sample ids
    counts: Sequence[int] = ()  # of each micro-batch, where those of several shards run together


Shape = tuple[int, ...]  # of one sample: (H,W,C), or (C,) after flattening
TakeFactors = Callable[[np.ndarray, np.ndarray], object]  # (x, dy) of a fully connected layer


class Layer:
    """The base of all layers: it has no parameters and remembers nothing."""

    kind = "other"  # the name under which logs count its time
    ops: Kernels = numpy_set  # what it computes with; a network gives all its layers one set

    def __init__(self, name: str) -> None:
        self.name = name
        self._kept: tuple[np.ndarray, ...] = ()

    def _keep(self, key: StepKey | None, *arrays: np.ndarray) -> None:
        """Remember what backward needs; in evaluation remember nothing, to save memory."""
        self._kept = arrays if key else ()

    def _recall(self) -> tuple[np.ndarray, ...]:
        """Return what forward remembered, and forget it."""
        kept, self._kept = self._kept, ()
        assert kept, f"{self.name}: backward without a forward pass of training"
        return kept

    def parameter_shapes(self) -> dict[str, Shape]:
        """Names and shapes of the parameters, in their order in the vector."""
        return {}

    def output_shape(self, shape: Shape) -> Shape:
        """The shape of one output sample, from the shape of one input sample."""
        return shape

    def bind(self, params: Sequence[np.ndarray], grads: Sequence[np.ndarray]) -> None:
        """Take views of the parameters, and of the places to write their gradients to."""

    def forward(self, x: np.ndarray, key: StepKey | None) -> np.ndarray:
        """Compute the output: for training if there is a key, else for evaluation."""
        raise NotImplementedError

    def backward(self, dy: np.ndarray) -> np.ndarray | None:
        """Write the gradients of the parameters; return that of the input, if it is needed."""
        raise NotImplementedError


class _Affine(Layer):
    """A layer with a weight and a bias."""

    weight_shape: Shape

    def parameter_shapes(self) -> dict[str, Shape]:
        return {"weight": self.weight_shape, "bias": self.weight_shape[-1:]}

    def bind(self, params: Sequence[np.ndarray], grads: Sequence[np.ndarray]) -> None:
        self.w, self.b = params
        self.dw, self.db = grads

    def _keep(self, key: StepKey | None, *arrays: np.ndarray) -> None:
        super()._keep(key, *arrays)
        self._counts = key.counts if key else ()


class Conv(_Affine):
    """3x3 convolution that keeps the size of the image, with a rectifier if `relu` is set.

    The rectifier works on what the convolution has just written, while it is in the cache.
    """

    # x is (N,H,W,C), y is (N,H,W,F), w is (3,3,C,F), b is (F,)

    kind = "conv"

    def __init__(
        self,
        name: str,
        channels: int,
        filters: int,
        relu: bool = False,
        need_dx: bool = True,
    ) -> None:
        super().__init__(name)
        self.weight_shape = (3, 3, channels, filters)
        self.relu = relu
        self.need_dx = need_dx

    def output_shape(self, shape: Shape) -> Shape:
        return (*shape[:2], self.weight_shape[-1])

    def forward(self, x: np.ndarray, key: StepKey | None) -> np.ndarray:
        y = self.ops.conv2d_forward(x, self.w, self.b, self.relu)
        self._keep(key, x, *[y] * self.relu)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray | None:
        x, *y = self._recall()
        return self.ops.conv2d_backward(
            dy, x, self.w, self.dw, self.db, self.need_dx, y[0] if y else None, self._counts
        )


class PooledConv(Layer):
    """A convolution with the max-pooling and the rectifier behind it, computed as one.

    The convolution's own output, four times as large, need not go through memory.
    """

    # x is (N,H,W,C), y and choice are (N,H/2,W/2,F)

    kind = "conv"

    def __init__(self, conv: Conv) -> None:
        super().__init__(conv.name)
        self._conv = conv

    def forward(self, x: np.ndarray, key: StepKey | None) -> np.ndarray:
        conv = self._conv
        y, choice = conv.ops.conv2d_pool_forward(x, conv.w, conv.b)
        self._keep(key, x, y, choice)
        self._counts = key.counts if key else ()
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray | None:
        conv, (x, y, choice) = self._conv, self._recall()
        return conv.ops.conv2d_pool_backward(
            dy, x, conv.w, conv.dw, conv.db, y, choice, self._counts
        )


class Linear(_Affine):
    """Fully connected layer."""

    # x is (N,C), y is (N,F), w is (C,F), b is (F,)

    kind = "fc"

    def __init__(self, name: str, inputs: int, outputs: int) -> None:
        super().__init__(name)
        self.weight_shape = (inputs, outputs)

    def output_shape(self, shape: Shape) -> Shape:
        return self.weight_shape[-1:]

    def forward(self, x: np.ndarray, key: StepKey | None) -> np.ndarray:
        self._keep(key, x)
        return self.ops.linear_forward(x, self.w, self.b)

    def backward(self, dy: np.ndarray, factors: TakeFactors | None = None) -> np.ndarray:
        """As any layer's; where somebody takes `factors`, x and dy, the gradients are not written.

        They follow from the factors: x' dy, and the sum of dy.
        """
        (x,) = self._recall()
        if factors is None:
            return self.ops.linear_backward(dy, x, self.w, self.dw, self.db, self._counts)
        factors(widened(x), widened(dy))
        return self.ops.linear_backward_input(dy, self.w)


class ReLU(Layer):
    """Rectifier; it works in place on its input, of any shape."""

    def forward(self, x: np.ndarray, key: StepKey | None) -> np.ndarray:
        y = self.ops.relu_forward(x)
        self._keep(key, y)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        (y,) = self._recall()
        return self.ops.relu_backward(dy, y)


class MaxPool(Layer):
    """2x2 max-pooling."""

    # x is (N,H,W,C), y is (N,H/2,W/2,C)

    kind = "pool"

    def output_shape(self, shape: Shape) -> Shape:
        return (shape[0] // 2, shape[1] // 2, shape[2])

    def forward(self, x: np.ndarray, key: StepKey | None) -> np.ndarray:
        y, choice = self.ops.maxpool_forward(x)
        self._keep(key, choice)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        (choice,) = self._recall()
        return self.ops.maxpool_backward(dy, choice)


class Flatten(Layer):
    """Flattens (N,H,W,C) to (N,H*W*C)."""

    def output_shape(self, shape: Shape) -> Shape:
        return (int(np.prod(shape)),)

    def forward(self, x: np.ndarray, key: StepKey | None) -> np.ndarray:
        self.shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        return dy.reshape(self.shape)


class Dropout(Layer):
    """Dropout, whose mask for a sample depends on seed, layer, step and sample id only."""

    # x, y and keep (bool) are (N,C)

    def __init__(self, name: str, rate: float) -> None:
        super().__init__(name)
        self.rate = rate

    def forward(self, x: np.ndarray, key: StepKey | None) -> np.ndarray:
        if not key or not self.rate:
            self._kept = ()
            return x
        keep = np.stack([self._mask(key, int(i), x.shape[1]) for i in key.ids])
        self._keep(key, keep)
        return self.ops.dropout_forward(x, keep, self.rate)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        if not self.rate:
            return dy
        (keep,) = self._recall()
        return self.ops.dropout_forward(dy, keep, self.rate)

    def _mask(self, key: StepKey, sample_id: int, count: int) -> np.ndarray:
        """Which of `count` units a sample keeps: each compares 16 random bits with the rate."""
        stream = philox(key.seed, f"dropout/{self.name}", key.step, sample_id)
        words = stream.random_raw(-(-count // 4)).astype("<u8").view("<u2")[:count]
        return words >= round(self.rate * 65536)
