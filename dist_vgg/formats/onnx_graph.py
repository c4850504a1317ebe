"""A trained network as an ONNX graph, from pixels to logits, for any runtime.

The graph has the names, layouts and order of torchvision's arrays. Weights in fewer bytes are made
float32 by the first node that they go through, so that every runtime computes alike.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dist_vgg import __version__
from dist_vgg.base.files import write_bytes
from dist_vgg.formats.metadata import describe
from dist_vgg.formats.packages import load_package
from dist_vgg.formats.torchvision import Parameter, parameters
from dist_vgg.network.layers import Conv, Flatten, Layer, Linear, MaxPool, ReLU
from dist_vgg.network.sequential import Sequential
from dist_vgg.state.precision import quantise
from dist_vgg.state.weights import Weights

OPSET, IR_VERSION = 17, 8  # that runtimes of several years read
INPUT, OUTPUT = "pixel_values", "logits"


def write_onnx(path: Path, weights: Weights, net: Sequential) -> None:
    """Write weights of any precision, whole or not at all; `net` is their network.

    The input is `pixel_values`, (batch, channels, size, size) float32 from 0 to 255, the output
    `logits`, (batch, classes). The same weights give the same bytes.
    """
    write_bytes(path, as_onnx(weights, net))


def as_onnx(weights: Weights, net: Sequential) -> bytes:
    """The content of an ONNX file."""
    onnx = load_package("onnx", "--to onnx")
    graph = Graph(onnx, weights)
    graph.normalise()
    arrays = list(parameters(net))
    for layer in net.layers:
        graph.layer(layer, [each for each in arrays if each.layer is layer])
    size, _, channels = net.input_shape
    classes = weights.network["classes"]
    return graph.content(("batch", channels, size, size), ("batch", classes))


class Graph:
    """Nodes one after the other, each of which takes the output of the last one."""

    def __init__(self, onnx: Any, weights: Weights) -> None:
        """Begin with the input; `onnx` is the package."""
        self._onnx, self._weights = onnx, weights
        self._nodes: list[Any] = []
        self._arrays: list[Any] = []
        self._last = INPUT

    def normalise(self) -> None:
        """Subtract the mean of pixels and divide by their deviation, as data/samples.py does."""
        mean = np.array(self._weights.mean, np.float32)
        scale = (1 / np.array(self._weights.std, np.float64)).astype(np.float32)
        for kind, name, array in (("Sub", "centred", mean), ("Mul", "normalised", scale)):
            self._node(kind, name, [self._constant(f"{name}.by", array.reshape(1, -1, 1, 1))])

    def layer(self, layer: Layer, arrays: Sequence[Parameter]) -> None:
        """Add a layer with its parameters."""
        match layer:
            case Conv():
                same = dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1])
                self._node("Conv", layer.name, [self._array(each) for each in arrays], **same)
                if layer.relu:
                    self._node("Relu", f"{layer.name}.relu")
            case Linear():
                self._node("Gemm", layer.name, [self._array(each) for each in arrays], transB=1)
            case MaxPool():
                self._node("MaxPool", layer.name, kernel_shape=[2, 2], strides=[2, 2])
            case ReLU():
                self._node("Relu", layer.name)
            case Flatten():
                self._node("Flatten", layer.name)

    def content(self, images: Sequence[int | str], logits: Sequence[int | str]) -> bytes:
        """The file; the shapes are those of its input and output."""
        helper, real = self._onnx.helper, self._onnx.TensorProto.FLOAT
        self._nodes[-1].output[0] = OUTPUT
        graph = helper.make_graph(
            self._nodes,
            self._weights.network.get("name", "vgg16"),
            [helper.make_tensor_value_info(INPUT, real, images)],
            [helper.make_tensor_value_info(OUTPUT, real, logits)],
            self._arrays,
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="dist_vgg",
            producer_version=__version__,
        )
        helper.set_model_props(model, describe(self._weights))
        return bytes(model.SerializeToString(deterministic=True))

    def _array(self, each: Parameter) -> str:
        """The name under which nodes find an array of parameters, in float32."""
        array = each.find(self._weights.params)
        precision = self._weights.precision
        if precision == "int8" and not each.slot.is_bias:
            levels, scales = quantise(array)
            stored = self._constant(f"{each.name}.levels", each.convert(levels))
            scale = self._constant(f"{each.name}.scales", scales)
            self._add("DequantizeLinear", [stored, scale], each.name, axis=0)
            return each.name
        if precision == "float16":
            half = each.convert(array.astype(np.float16))
            stored = self._constant(f"{each.name}.float16", half)
            self._add("Cast", [stored], each.name, to=self._onnx.TensorProto.FLOAT)
            return each.name
        return self._constant(each.name, each.convert(array))

    def _constant(self, name: str, array: np.ndarray) -> str:
        self._arrays.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def _node(self, kind: str, name: str, arrays: Sequence[str] = (), **attributes: Any) -> None:
        """Add a node that takes the last one's output."""
        self._add(kind, [self._last, *arrays], name, **attributes)
        self._last = name

    def _add(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> None:
        node = self._onnx.helper.make_node(kind, inputs, [name], name, **attributes)
        self._nodes.append(node)
