"""Each distinct layer of the network with data to run it on, and the error of each kernel set."""

import time
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from dist_vgg.base.random import generator
from dist_vgg.bench.flops import layer_flops
from dist_vgg.kernels import reference, winograd
from dist_vgg.kernels.bfloat16_format import narrowed, widened
from dist_vgg.kernels.protocol import Kernels
from dist_vgg.kernels.sets import BFLOAT16
from dist_vgg.network.layers import Flatten, Layer, Shape, StepKey
from dist_vgg.network.vgg import vgg16

IMAGES = winograd.FEWEST_TILES  # that an error is taken of: even 4x4 pixels are tiles enough then


class LayerProbes:
    """The distinct layers of VGG16, each run on its own with each of several kernel sets."""

    def __init__(self, micro_batch: int, kernels: Sequence[str], width: float) -> None:
        nets = {name: vgg16(width=width, kernels=name) for name in kernels}
        shape = next(iter(nets.values())).input_shape
        probes: dict[Any, _Probe] = {}
        for same in zip(*(net.layers for net in nets.values()), strict=True):
            layer = same[0]
            key = (type(layer), shape, layer.parameter_shapes().get("weight"))
            if key in probes:
                probes[key].names.append(layer.name)
            elif not isinstance(layer, Flatten):
                probes[key] = _Probe(dict(zip(nets, same, strict=True)), shape, micro_batch)
            shape = layer.output_shape(shape)
        self._probes = list(probes.values())

    def measure(self) -> None:
        """Run each layer once with each set."""
        for probe in self._probes:
            probe.measure()

    def forget(self) -> None:
        """Drop the readings so far."""
        for probe in self._probes:
            probe.forget()

    def results(self) -> list[dict[str, Any]]:
        """The readings, operations and errors of each layer."""
        return [probe.result() for probe in self._probes]


class _Probe:
    """One layer, which stands for all that are equal to it, with data to run it on."""

    def __init__(self, layers: dict[str, Layer], shape: Shape, images: int) -> None:
        self.layers, self.shape = layers, shape  # by the set that each computes with
        self.layer = layer = next(iter(layers.values()))
        self.names = [layer.name]
        rng = generator(0, "bench", *shape[:3])
        output = layer.output_shape(shape)
        self.flops = layer_flops(layer, output)
        self.x = np.abs(rng.standard_normal((images, *shape), np.float32))
        self.dy = rng.standard_normal((images, *output), np.float32)
        self.given = {name: (self.x, self.dy) for name in layers}
        if BFLOAT16 in layers:  # the layers before and behind have rounded both
            self.given[BFLOAT16] = narrowed(self.x), narrowed(self.dy)
        self.key = StepKey(0, 0, np.arange(images))
        params, grads = [], []
        for size in layer.parameter_shapes().values():
            params.append(rng.standard_normal(size, np.float32) * np.float32(0.01))
            grads.append(np.empty(size, np.float32))
        for each in layers.values():
            each.bind(params, grads)
        self.forget()

    def measure(self) -> None:
        """Run the layer forward and backward once with each set."""
        for name, layer in self.layers.items():
            x, dy = self.given[name]
            start = time.perf_counter()
            layer.forward(x, self.key)
            middle = time.perf_counter()
            layer.backward(dy)
            end = time.perf_counter()
            forward, backward = self.seconds[name]
            forward.append(middle - start)
            backward.append(end - middle)

    def forget(self) -> None:
        """Drop the readings so far."""
        self.seconds: dict[str, tuple[list[float], list[float]]]
        self.seconds = {name: ([], []) for name in self.layers}

    def result(self) -> dict[str, Any]:
        """The measured seconds and, where there is a sum to round, the error of each set."""
        weight = self.layer.parameter_shapes().get("weight")
        sets = {name: layer.ops for name, layer in self.layers.items()}
        return dict(
            names=self.names,
            kind=type(self.layer).__name__,
            input=self.shape,
            weight=weight,
            flops=self.flops,
            seconds=self.seconds,
            errors=errors(self.shape, weight, sets) if weight else {},
        )


def errors(shape: Shape, weight: Shape, sets: dict[str, Kernels]) -> dict[str, dict[str, float]]:
    """The largest error of each set in y, dx and dw, as a share of the largest number in each.

    The layer is a convolution where the input has the shape (H,W,C), and fully connected where it
    has (C,). The truth is the reference in float64.
    """
    rng = generator(0, "bench/error", *shape)
    x = np.abs(rng.standard_normal((IMAGES, *shape)))
    w = rng.standard_normal(weight) * (2 / prod(weight[:-1])) ** 0.5
    dy = rng.standard_normal((*x.shape[:-1], weight[-1]))
    exact = _both_ways(reference, x, w, dy)
    singles = [array.astype(np.float32) for array in (x, w, dy)]
    result = {}
    for name, ops in sets.items():
        found = _both_ways(ops, *singles)
        result[name] = {
            part: float(np.abs(found[part] - exact[part]).max() / np.abs(exact[part]).max())
            for part in exact
        }
    return result


def _both_ways(ops: Kernels, x: np.ndarray, w: np.ndarray, dy: np.ndarray) -> dict[str, np.ndarray]:
    """A layer's output, and its gradients by input and weight."""
    b, dw = np.zeros(w.shape[-1], w.dtype), np.empty_like(w)
    if x.ndim == 4:
        y = ops.conv2d_forward(x, w, b)
        dx = ops.conv2d_backward(dy, x, w, dw, np.empty_like(b))
    else:
        y = ops.linear_forward(x, w, b)
        dx = ops.linear_backward(dy, x, w, dw, np.empty_like(b))
    assert dx is not None
    return dict(y=widened(y), dx=widened(dx), dw=dw)
