"""Trained networks as ONNX graphs: ONNX Runtime computes from pixels what our network does."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from differing import both_logits, differing, mnist_images, runtime_logits, session_of
from onnx import TensorProto, numpy_helper
from trained import COLOURS, DIGITS, NETWORKS, close, logits, pixels, ready

from dist_vgg.base.errors import UserError
from dist_vgg.formats.metadata import describe
from dist_vgg.formats.onnx_graph import as_onnx, write_onnx
from dist_vgg.formats.torchvision import to_torchvision
from dist_vgg.formats.trained import SHIPPED, load_network, read_trained, round_weights
from dist_vgg.state.precision import PRECISIONS

pytestmark = pytest.mark.usefixtures("quick_disk")


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_onnx_runtime_computes_the_same(network: dict[str, Any], precision: str) -> None:
    weights, net = ready(network)
    rounded = round_weights(weights, net, precision)
    content, images = as_onnx(rounded, net), pixels(network)
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    expected = logits(load_network(rounded, "numpy"), weights, images)
    session = session_of(content)
    close(runtime_logits(session, images), expected)
    close(runtime_logits(session, images[:1]), expected[:1])  # batches of any size
    if precision != "float32":
        assert np.abs(expected - logits(net, weights, images)).max() > 1e-5


def test_the_graph(tmp_path: Path) -> None:
    weights, net = ready(COLOURS)
    path = tmp_path / "a.onnx"
    write_onnx(path, weights, net)
    assert list(tmp_path.iterdir()) == [path]
    model = onnx.load(path)
    assert (model.ir_version, model.opset_import[0].version) == (8, 17)
    assert {prop.key: prop.value for prop in model.metadata_props} == describe(weights)
    graph = model.graph
    for value, name, shape in (
        (graph.input, "pixel_values", ["batch", 3, 96, 96]),
        (graph.output, "logits", ["batch", 12]),
    ):
        (only,) = value
        assert only.name == name
        dims = only.type.tensor_type.shape.dim
        assert [dim.dim_param or dim.dim_value for dim in dims] == shape
    kinds = [node.op_type for node in graph.node]
    assert kinds[:2] == ["Sub", "Mul"]
    assert set(kinds[2:]) == {"Conv", "Relu", "MaxPool", "Flatten", "Gemm"}
    arrays = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    for name, array in to_torchvision(net, weights.params).items():
        np.testing.assert_array_equal(arrays[name], array)


@pytest.mark.parametrize(
    ("precision", "kind", "dtype"),
    [("float16", "Cast", TensorProto.FLOAT16), ("int8", "DequantizeLinear", TensorProto.INT8)],
)
def test_arrays_in_fewer_bytes_are_made_float32_once(precision: str, kind: str, dtype: int) -> None:
    weights, net = ready(DIGITS)
    graph = onnx.load_from_string(as_onnx(round_weights(weights, net, precision), net)).graph
    stored = {each.name for each in graph.initializer if each.data_type == dtype}
    nodes = [node for node in graph.node if node.op_type == kind]
    assert len(stored) == (32 if precision == "float16" else 16)  # int8 biases are float32
    assert sorted(node.input[0] for node in nodes) == sorted(stored)
    for node in nodes:
        (user,) = [other for other in graph.node if node.output[0] in other.input]
        assert user.op_type in ("Conv", "Gemm")


def test_same_weights_give_the_same_bytes_in_so_many() -> None:
    weights, net = ready(COLOURS)
    for precision, each in (("float32", 4), ("float16", 2), ("int8", 1)):
        rounded = round_weights(weights, net, precision)
        content = as_onnx(rounded, net)
        assert content == as_onnx(rounded, net)
        assert 0 < len(content) - each * net.parameter_count < 20_000


def test_a_missing_package_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, net = ready(DIGITS)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"^--to onnx needs the package onnx.*dist_vgg\[export\]'$"):
        write_onnx(tmp_path / "a.onnx", weights, net)
    assert not list(tmp_path.iterdir())


def test_every_differing_class_is_named() -> None:
    ours = np.array([[1, 2, 3], [3, 1, 2.5], [5, 4, 3]])
    theirs = np.array([[1, 2, 3], [3, 1, 3.5], [5, 4, 3]])
    assert differing(ours, theirs) == [
        "image 1: 0 here, 2 in ONNX Runtime, logits 3.000000 and 2.500000 here"
    ]


def test_the_classes_of_test_images(real_mnist: Path) -> None:
    weights = read_trained(SHIPPED)
    images = mnist_images(real_mnist, weights.network["size"], 2000)  # differing.py does them all
    ours, theirs = np.concatenate(list(both_logits(weights, images, weights.precision)), axis=1)
    close(theirs, ours)
    assert differing(ours, theirs) == []
