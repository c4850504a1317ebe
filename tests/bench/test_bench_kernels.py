"""The benchmark of layers, with each kernel set; and how many operations a layer has."""

from typing import Any

import pytest
from benching import QUICK, SMALL
from sets import KERNELS

from dist_vgg.bench.flops import network_flops
from dist_vgg.bench.layer_probes import errors
from dist_vgg.kernels import numpy_set, reference, sets
from dist_vgg.kernels.protocol import Kernels
from dist_vgg.network.layers import Conv
from dist_vgg.network.vgg import vgg16


def test_operations_of_the_full_network() -> None:
    forward, backward = network_flops(vgg16())
    assert forward + backward == pytest.approx(7.64e9, rel=0.01)
    assert forward == 2 * 1_273_274_368  # what `summary` has as multiply-adds
    assert backward == 2 * forward - 2 * 9 * 1 * 64 * 64 * 64  # nobody needs conv1_1's dx


def test_operations_of_the_convolutions_by_hand() -> None:
    net = vgg16()
    net.layers = [layer for layer in net.layers if not layer.name.startswith(("fc", "drop"))]
    # (side, channels, filters) of each
    shapes = [(64, 1, 64), (64, 64, 64), (32, 64, 128), (32, 128, 128), (16, 128, 256)]
    shapes += [(16, 256, 256)] * 2 + [(8, 256, 512)] + [(8, 512, 512)] * 2 + [(4, 512, 512)] * 3
    assert sum(isinstance(layer, Conv) for layer in net.layers) == len(shapes)
    expected = sum(2 * side * side * 9 * c * f for side, c, f in shapes)
    assert network_flops(net) == (expected, 2 * expected - 2 * 64 * 64 * 9 * 64)


@pytest.mark.parametrize("kernels", KERNELS)
def test_kernels(kernels: str, measured: Any) -> None:
    small = (*SMALL, "--width", "0.25", "--micro-batch", "2")
    output, found = measured("kernels", *small, "--kernels", kernels)
    names = [name for layer in found["layers"] for name in layer["names"]]
    expected = [layer.name for layer in vgg16().layers if layer.name != "flatten"]
    assert sorted(names) == sorted(expected)
    for layer in found["layers"]:
        assert list(layer["ms"]) == [kernels, "reference"]
        assert all(len(one["values"]) == 2 for both in layer["ms"].values() for one in both)
        assert list(layer["errors"]) == [kernels, "reference"] * (
            layer["kind"] in ("Conv", "Linear")
        )
    (header,) = (line for line in output.splitlines() if line.startswith("layer"))
    assert f"{kernels}, ms" in header
    assert "reference, ms" in header
    assert "conv3_2 x2" in output
    assert "conv5_1 x3" in output
    assert found["ms_an_image"]["as trained"] == found["ms_an_image"][kernels]
    inside = found.get("products", {})
    assert bool(inside) == (kernels == "compiled")
    assert ("of our own 64x64x64 product" in output) == bool(inside)
    for step, large, share in zip(*(one["values"] for one in inside.values()), strict=True):
        assert share == step / large
    assert "images/s a core" in output


def test_all_kernels_side_by_side(measured: Any) -> None:
    _, found = measured("kernels", *SMALL, "--micro-batch", "2")
    installed = [name for name in sets.CHOICES[1:] if not sets.why_missing(name)]
    assert all(list(layer["ms"]) == installed for layer in found["layers"])
    assert len(installed) > 1


def test_bfloat16_beside_the_other_kernels(
    measured: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    sets.load(sets.BFLOAT16)
    capsys.readouterr()  # it says that it compiles
    options = ("--micro-batch", "2", "--precision", "bfloat16", "--kernels", "compiled")
    output, found = measured("kernels", *SMALL, *options)
    assert all(list(layer["ms"]) == ["bfloat16", "reference"] for layer in found["layers"])
    assert "peak of bfloat16, products in the cache: " in output
    errors = [layer["errors"]["bfloat16"]["y"] for layer in found["layers"] if layer["errors"]]
    assert 2.0**-12 < max(errors) < 2.0**-6
    output, found = measured("step", *QUICK, *options, "--ranks", "1")
    (ours,) = found["contenders"].values()
    assert 0 < ours["share_of_tile_peak"] < 1
    assert f"GFLOP/s, of which {next(iter(found['contenders']))} makes " in output


@pytest.mark.parametrize("option", ["--conv", "--kernels"])
def test_kernels_of_the_direct_convolution(option: str, measured: Any) -> None:
    _, found = measured("kernels", *SMALL, "--micro-batch", "2", option, "reference")
    assert all(list(layer["ms"]) == ["reference"] for layer in found["layers"])
    assert found["ms_an_image"]["as trained"] == found["ms_an_image"]["im2col alone"]


def test_errors_are_those_of_single_precision() -> None:
    both: dict[str, Kernels] = dict(numpy=numpy_set, reference=reference)
    for shape, weight in ((4, 4, 16), (3, 3, 16, 16)), ((16,), (16, 4)):
        found = errors(shape, weight, both)
        for kernel in found.values():
            assert set(kernel) == {"y", "dx", "dw"}
            assert all(1e-8 < error < 1e-4 for error in kernel.values())
        assert (found["numpy"] == found["reference"]) == (len(shape) == 1)
