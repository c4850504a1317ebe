"""The gradient check passes right gradients, and finds and names wrong ones."""

from collections.abc import Callable

import numpy as np
import pytest
from narrow_network import KEY, LABELS, images, network
from sets import KERNELS

from dist_vgg.base.errors import UserError
from dist_vgg.network.layers import Layer, StepKey
from dist_vgg.training.gradient_check import check_gradients


@pytest.mark.parametrize(
    ("width", "seed"), [(0.03, 0), (0.03, 1), (0.03, 34), (0.06, 30), (0.1, 0), (0.1, 48)]
)
@pytest.mark.parametrize("kernels", ["reference", *KERNELS])
def test_gradients_of_a_right_network_pass(width: float, seed: int, kernels: str) -> None:
    # In narrow networks whole areas are silent. Seeds 30, 34 and 48 have a kink between the two
    # points of the longest step, which is no mistake of the gradient.
    net, params, grads = network(width, seed, kernels)
    before = params.copy()
    key = StepKey(seed, 0, np.array([1, 2]))
    assert check_gradients(net, params, images(), LABELS, key) < 1e-4
    np.testing.assert_array_equal(params, before)
    assert not grads.any()


@pytest.mark.parametrize("name", ["vgg11", "vgg13", "vgg19"])
@pytest.mark.parametrize("kernels", KERNELS)
def test_gradients_of_the_family_pass(name: str, kernels: str) -> None:
    """In vgg11 a convolution that hands no gradient on is pooled at once."""
    net, params, _ = network(0.05, 0, kernels, name)
    assert check_gradients(net, params, images(), LABELS, KEY) < 1e-4


def too_large(dw: np.ndarray) -> None:
    dw *= 1.001


def negative(dw: np.ndarray) -> None:
    dw *= -1


def never_written(dw: np.ndarray) -> None:
    dw[:] = 0


def half_written(dw: np.ndarray) -> None:
    dw[..., : dw.shape[-1] // 2] = 0


def mirrored(dw: np.ndarray) -> None:
    dw[:] = dw[::-1].copy()


def gradient(layer: Layer, kind: str) -> np.ndarray:
    array: np.ndarray = vars(layer)["dw" if kind == "weight" else "db"]
    return array


@pytest.mark.parametrize("spoil", [too_large, negative, never_written, half_written, mirrored])
@pytest.mark.parametrize("name", ["conv1_1.weight", "conv4_2.weight", "fc7.bias", "fc8.weight"])
def test_a_wrong_gradient_is_found_and_named(
    name: str, spoil: Callable[[np.ndarray], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    net, params, _ = network(width=0.1)
    layer_name, kind = name.split(".")
    layer = next(layer for layer in net.layers if layer.name == layer_name)
    right = layer.backward

    def wrong(dy: np.ndarray) -> np.ndarray | None:
        dx = right(dy)
        spoil(gradient(layer, kind))
        return dx

    monkeypatch.setattr(layer, "backward", wrong)
    with pytest.raises(UserError, match=f"the gradient of {name} is wrong: .*backward says"):
        check_gradients(net, params, images(), LABELS, KEY)


def test_a_gradient_lost_in_rounding_is_no_mistake() -> None:
    net, params, _ = network(width=0.1)
    last = net.slots[-2]
    params[last.lo : last.hi] *= 1e-8
    check_gradients(net, params, images(), LABELS, KEY)


def test_a_small_gradient_is_checked_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    net, params, _ = network(width=0.1)
    last = net.slots[-2]
    params[last.lo : last.hi] *= 1e-3  # and with it all gradients of the layers before
    assert check_gradients(net, params, images(), LABELS, KEY) < 1e-4
    layer = net.layers[0]
    right = layer.backward

    def wrong(dy: np.ndarray) -> np.ndarray | None:
        dx = right(dy)
        too_large(gradient(layer, "weight"))
        return dx

    monkeypatch.setattr(layer, "backward", wrong)
    with pytest.raises(UserError, match=r"the gradient of conv1_1.weight is wrong"):
        check_gradients(net, params, images(), LABELS, KEY)


def test_a_wrong_input_gradient_shows_in_the_layer_before(monkeypatch: pytest.MonkeyPatch) -> None:
    net, params, _ = network(width=0.1)
    right = net.ops.maxpool_backward
    monkeypatch.setattr(net.ops, "maxpool_backward", lambda dy, choice: right(dy, 3 - choice))
    with pytest.raises(UserError, match=r"the gradient of conv1_1.weight is wrong"):
        check_gradients(net, params, images(), LABELS, KEY)
