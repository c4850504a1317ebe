"""Each distinct layer of the network with data to run it on, and the error of each kernel."""

import time
from math import prod
from typing import Any

import numpy as np

from dist_vgg.base.random import generator
from dist_vgg.bench.flops import layer_flops
from dist_vgg.kernels import numpy_set, winograd
from dist_vgg.kernels import reference as F
from dist_vgg.kernels.protocol import Kernels
from dist_vgg.kernels.sets import NUMPY, REFERENCE
from dist_vgg.network.layers import Conv, Flatten, Layer, Shape, StepKey
from dist_vgg.network.vgg import vgg16

IM2COL = "im2col"  # the reference's convolution


class LayerProbes:
    """The distinct layers of VGG16, each run on its own with each kernel that suits it."""

    def __init__(self, micro_batch: int, kernels: str, width: float) -> None:
        net, direct = (vgg16(width=width, kernels=name) for name in (kernels, REFERENCE))
        probes: dict[Any, _Probe] = {}
        shape = net.input_shape
        for layer, plain in zip(net.layers, direct.layers, strict=True):
            key = (type(layer), shape, layer.parameter_shapes().get("weight"))
            if key in probes:
                probes[key].names.append(layer.name)
            elif not isinstance(layer, Flatten):
                probes[key] = _Probe(layer, plain, shape, micro_batch)
            shape = layer.output_shape(shape)
        self._probes = list(probes.values())

    def measure(self) -> None:
        """Run each layer once with each kernel."""
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

    def __init__(self, layer: Layer, plain: Layer, shape: Shape, images: int) -> None:
        rng = generator(0, "bench", *shape[:3])
        output = layer.output_shape(shape)
        self.names = [layer.name]
        self.layer, self.shape = layer, shape
        self.flops = layer_flops(layer, output)
        self.x = np.abs(rng.standard_normal((images, *shape), np.float32))
        self.dy = rng.standard_normal((images, *output), np.float32)
        self.key = StepKey(0, 0, np.arange(images))
        params, grads = [], []
        for size in layer.parameter_shapes().values():
            params.append(rng.standard_normal(size, np.float32) * np.float32(0.01))
            grads.append(np.empty(size, np.float32))
        self.kernels = {"": layer}  # a kernel has a name only where there is a choice
        if isinstance(layer, Conv):
            name = _convolution(layer.ops, self.x.shape, layer.weight_shape[-1])
            self.kernels = {name: layer, IM2COL: plain}  # which may be one
        for kernel in self.kernels.values():
            kernel.bind(params, grads)
        self.forget()

    def measure(self) -> None:
        """Run each kernel forward and backward once."""
        for name, layer in self.kernels.items():
            start = time.perf_counter()
            layer.forward(self.x, self.key)
            middle = time.perf_counter()
            layer.backward(self.dy)
            end = time.perf_counter()
            forward, backward = self.seconds[name]
            forward.append(middle - start)
            backward.append(end - middle)

    def forget(self) -> None:
        """Drop the readings so far."""
        self.seconds: dict[str, tuple[list[float], list[float]]]
        self.seconds = {name: ([], []) for name in self.kernels}

    def result(self) -> dict[str, Any]:
        """The measured seconds and, where there is a choice of kernels, their errors."""
        weight = self.layer.parameter_shapes().get("weight")
        compared = isinstance(self.layer, Conv) and len(self.kernels) > 1
        return dict(
            names=self.names,
            kind=type(self.layer).__name__,
            input=self.shape,
            weight=weight,
            flops=self.flops,
            seconds=self.seconds,
            errors=errors(self.shape, weight, self.layer.ops) if weight and compared else {},
        )


def _convolution(ops: Kernels, shape: Shape, filters: int) -> str:
    """What the table calls the convolution that a set takes for an input's shape (N,H,W,C)."""
    if ops.NAME != NUMPY:
        return IM2COL if ops.NAME == REFERENCE else ops.NAME
    return "winograd" if winograd.suits(shape, filters) else IM2COL


def errors(shape: Shape, weight: Shape, ops: Kernels = numpy_set) -> dict[str, dict[str, float]]:
    """The largest error of each kernel in y, dx and dw, as a share of the largest number in each.

    The truth is the direct convolution in float64, on two images or as many as the kernel needs.
    """
    images = 2
    while (faster := _convolution(ops, (images, *shape), weight[-1])) == IM2COL:
        images += 1
    rng = generator(0, "bench/error", *shape)
    x = np.abs(rng.standard_normal((images, *shape)))
    w = rng.standard_normal(weight) * (2 / prod(weight[:-1])) ** 0.5
    dy = rng.standard_normal((*x.shape[:3], weight[-1]))
    exact = _both_ways(F, x, w, dy)
    singles = [array.astype(np.float32) for array in (x, w, dy)]
    result = {}
    for name, kernel in ((faster, ops), (IM2COL, F)):
        found = _both_ways(kernel, *singles)
        result[name] = {
            part: float(np.abs(found[part] - exact[part]).max() / np.abs(exact[part]).max())
            for part in exact
        }
    return result


def _both_ways(
    kernel: Kernels, x: np.ndarray, w: np.ndarray, dy: np.ndarray
) -> dict[str, np.ndarray]:
    """A convolution's output, and its gradients by input and filters."""
    b, dw = np.zeros(w.shape[-1], w.dtype), np.empty_like(w)
    y = kernel.conv2d_forward(x, w, b)
    dx = kernel.conv2d_backward(dy, x, w, dw, np.empty_like(b))
    assert dx is not None
    return dict(y=y, dx=dx, dw=dw)
