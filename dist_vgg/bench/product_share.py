"""How near the products inside the compiled kernels come to one large product of the same kind.

Both call kernels/passes/products.py and differ in their shapes alone: those of a step have tens to
hundreds of rows, and the factors where the kernels have them. Importing this file needs llvmlite.
"""

import time
from collections import Counter

import numpy as np

from dist_vgg.base.random import generator
from dist_vgg.kernels.compiled import FEWEST_CHANNELS, product
from dist_vgg.kernels.machine_code import Function
from dist_vgg.kernels.passes.sizes import CHAIN, DEPTH, ROWS, panel_width
from dist_vgg.kernels.scratch import Scratch, aligned
from dist_vgg.network.layers import Conv, Linear, Shape
from dist_vgg.network.vgg import vgg16

FLOAT32 = np.dtype(np.float32)

places, filters_gradient, matrix, matrix_input_gradient, matrix_gradient, square = (
    Function(f"dist_vgg.bench.product_loops.{name}")
    for name in (
        "places", "filters_gradient", "matrix", "matrix_input_gradient", "matrix_gradient",
        "square",
    )
)  # fmt: skip


class ProductShare:
    """The products of a step of VGG16 with so many images, and one of large square matrices."""

    def __init__(self, micro_batch: int, width: float, side: int) -> None:
        net = vgg16(width=width)
        counts: Counter[tuple[type, Shape, Shape]] = Counter()
        shape = net.input_shape
        for layer in net.layers:
            # The direct convolution's products are a part of what it does at each pixel.
            if isinstance(layer, Linear) or (
                isinstance(layer, Conv) and min(layer.weight_shape[2:]) >= FEWEST_CHANNELS
            ):
                counts[type(layer), shape, layer.weight_shape] += 1
            shape = layer.output_shape(shape)
        self._layers = [
            ((_Conv if kind is Conv else _Linear)(micro_batch, shape, weight), count)
            for (kind, shape, weight), count in counts.items()
        ]
        self._square = _Square(side)

    def measure(self) -> tuple[float, float]:
        """GFLOP/s of the step's products, weighted as a step has them, and of the large one."""
        flops = seconds = 0.0
        for layer, count in self._layers:
            flops += count * layer.flops
            seconds += count * _seconds(layer)
        return flops / seconds / 1e9, self._square.flops / _seconds(self._square) / 1e9


class _Conv:
    """The products of Winograd's convolution, forward and backward, block by block."""

    def __init__(self, images: int, shape: Shape, weight: Shape) -> None:
        height, wide, self.channels = shape
        self.filters = weight[-1]
        self.rows, self.columns = images * -(-height // 4), -(-wide // 4)  # of tiles
        x = np.empty((images, *shape), FLOAT32)
        self.forward, self.backward = Scratch(x, self.filters), Scratch(x, self.filters, ())
        for s in self.forward, self.backward:
            for array in s.v, s.u, s.m:
                array[:] = _random(array.size).reshape(array.shape)
        self.flops = 3 * 2 * 36 * self.rows * self.columns * self.channels * self.filters

    def __call__(self) -> None:
        at, c, f = product.address(FLOAT32), self.channels, self.filters
        s = self.forward
        for tiles in self._blocks(s):
            places(at, s.v, s.u, s.m, tiles, c, f, s.whole, s.wc, s.wf)
        s, chain = self.backward, max(1, CHAIN // self.columns) * self.columns
        for tiles in self._blocks(s):
            filters_gradient(at, s.v, s.m, s.du, tiles, c, f, chain, s.whole, s.wc, s.wf)
            places(at, s.m, s.u, s.v, tiles, f, c, s.whole, s.wf, s.wc)

    def _blocks(self, s: Scratch) -> list[int]:
        """The tiles of each block."""
        firsts = range(0, self.rows, s.at_once)
        return [min(s.at_once, self.rows - first) * self.columns for first in firsts]


class _Linear:
    """The products of a fully connected layer, forward and backward."""

    def __init__(self, images: int, shape: Shape, weight: Shape) -> None:
        self.images, (self.inputs, self.outputs) = images, weight
        self.width, self.turned_width = panel_width(self.outputs), panel_width(images)
        more = max(self.width, self.turned_width)  # the last panel may reach beyond a matrix
        self.x = _random(images * self.inputs)
        self.w = _random(self.inputs * self.outputs + more)
        self.dy = _random(images * self.outputs + more)
        self.turned = _random((images + more) * self.outputs)
        self.sums = _random(max(images * (self.outputs + more), ROWS * more))
        self.flops = 3 * 2 * images * self.inputs * self.outputs

    def __call__(self) -> None:
        at, sizes = product.address(FLOAT32), (self.images, self.inputs, self.outputs)
        matrix(at, self.x, self.w, self.sums, *sizes, self.width)
        matrix_gradient(at, self.x, self.dy, self.sums, *sizes, self.width)
        matrix_input_gradient(at, self.w, self.turned, self.sums, *sizes, self.turned_width)


class _Square:
    """One product of large square matrices."""

    def __init__(self, side: int) -> None:
        self.side, self.width = side, panel_width(side)
        numbers = side * (side + max(self.width, DEPTH))  # the last panel may have empty columns
        self.matrices = [_random(numbers) for _ in range(3)]
        self.flops = 2 * side**3

    def __call__(self) -> None:
        square(product.address(FLOAT32), *self.matrices, self.side, self.width)


def _random(numbers: int) -> np.ndarray:
    """So many random numbers, from the beginning of a line of the cache on."""
    array = aligned((numbers,), FLOAT32)
    few = generator(0, "bench/product_share").standard_normal(1 << 16, np.float32)
    array[:] = np.resize(few, numbers)
    return array


def _seconds(products: _Conv | _Linear | _Square) -> float:
    """Seconds of this thread, so that who else uses the core doesn't count."""
    start = time.thread_time()
    products()
    return time.thread_time() - start
