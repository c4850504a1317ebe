"""VGG16 and its family: its table of layers, its size, and where its parameters start."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from sets import KERNELS

from dist_vgg.base.errors import UserError
from dist_vgg.kernels import numpy_set
from dist_vgg.kernels.sets import load
from dist_vgg.network.layers import Conv, MaxPool, ReLU, StepKey
from dist_vgg.network.vgg import BLOCKS, initialise, vgg, vgg16
from dist_vgg.runs.config import NETWORKS, TrainConfig


def test_layers_in_order() -> None:
    net = vgg16()
    names = "".join(layer.name + " " for layer in net.layers)
    assert names == (
        "conv1_1 conv1_2 pool1 relu1 "
        "conv2_1 conv2_2 pool2 relu2 "
        "conv3_1 conv3_2 conv3_3 pool3 relu3 "
        "conv4_1 conv4_2 conv4_3 pool4 relu4 "
        "conv5_1 conv5_2 conv5_3 pool5 relu5 "
        "flatten fc6 relu6 drop6 fc7 relu7 drop7 fc8 "
    )
    assert len({layer.name for layer in net.layers}) == len(net.layers)


def test_each_convolution_is_rectified_once() -> None:
    # In it, or for the last one of a block after the pooling.
    net = vgg16()
    for layer, *following in zip(net.layers, net.layers[1:], net.layers[2:], strict=False):
        if isinstance(layer, Conv):
            kinds = [type(other) for other in following]
            assert layer.relu == (kinds != [MaxPool, ReLU]), layer.name
            assert layer.relu == (kinds[0] is Conv), layer.name


def test_only_the_first_layer_has_no_gradient_to_hand_on() -> None:
    needs = [layer.need_dx for layer in vgg16().layers if isinstance(layer, Conv)]
    assert needs == [False] + [True] * 12


@pytest.mark.parametrize("kernels", [*KERNELS, "reference"])
def test_all_layers_compute_with_the_kernels_asked_for(kernels: str) -> None:
    net = vgg16(kernels=kernels)
    assert net.ops is load(kernels)
    assert kernels == net.ops.NAME
    assert all(layer.ops is net.ops for layer in net.layers)


def test_kernels_may_be_a_set_of_ones_own() -> None:
    kernels = SimpleNamespace(**vars(numpy_set))
    net = vgg16(kernels=kernels)
    assert net.ops is kernels
    assert all(layer.ops is kernels for layer in net.layers)


def test_filters_of_configuration_d() -> None:
    shapes = [slot.shape for slot in vgg16(224, 3, 1000).slots if not slot.is_bias]
    channels = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    assert shapes[:13] == [(3, 3, a, b) for a, b in pairwise(channels)]
    assert shapes[13:] == [(7 * 7 * 512, 4096), (4096, 4096), (4096, 1000)]


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (dict(size=64, channels=1, classes=10), 39_928_522),
        (dict(size=224, channels=3, classes=1000), 138_357_544),  # as in the paper's Table 2
    ],
)
def test_parameter_count(arguments: dict, count: int) -> None:
    assert vgg16(**arguments).parameter_count == count


@pytest.mark.parametrize(
    ("name", "convolutions", "count"),  # Tables 1 and 2 of the paper, and exact counts as published
    [
        ("vgg11", [1, 1, 2, 2, 2], 132_863_336),
        ("vgg13", [2, 2, 2, 2, 2], 133_047_848),
        ("vgg16", [2, 2, 3, 3, 3], 138_357_544),
        ("vgg19", [2, 2, 4, 4, 4], 143_667_240),
    ],
)
def test_the_family(name: str, convolutions: list[int], count: int) -> None:
    net = vgg(name, 224, 3, 1000)
    assert net.parameter_count == count
    filters = [64, 128, 256, 512, 512]
    outputs = [n for n, times in zip(filters, convolutions, strict=True) for _ in range(times)]
    shapes = [slot.shape for slot in net.slots if not slot.is_bias]
    assert shapes[:-3] == [(3, 3, a, b) for a, b in pairwise([3, *outputs])]
    assert shapes[-3:] == [(7 * 7 * 512, 4096), (4096, 4096), (4096, 1000)]


def test_the_names_of_the_family() -> None:
    assert tuple(BLOCKS) == NETWORKS
    assert TrainConfig().network == "vgg16"
    with pytest.raises(UserError, match=r"^no network vgg12; choose one of vgg11, vgg13, "):
        vgg("vgg12")
    assert [slot.shape for slot in vgg().slots] == [slot.shape for slot in vgg16().slots]


@pytest.mark.parametrize(("width", "filters"), [(0.5, 32), (0.001, 1), (2.0, 128)])
def test_width_scales_the_hidden_widths_only(width: float, filters: int) -> None:
    net = vgg16(width=width)
    assert net.slots[0].shape == (3, 3, 1, filters)
    assert net.slots[-1].shape == (10,)


def start(seed: int = 0, width: float = 0.2) -> dict[str, np.ndarray]:
    """The parameters by name, as training starts with them."""
    net = vgg16(width=width)
    params = np.full(net.parameter_count, np.nan, np.float32)
    initialise(net, params, seed)
    return {slot.name: params[slot.lo : slot.hi] for slot in net.slots}


def test_deviations() -> None:
    net = vgg16(width=0.2)
    params = start()
    for slot in net.slots:
        view = params[slot.name]
        if slot.is_bias:
            assert not view.any()
            continue
        deviation = 0.01 if slot.name == "fc8.weight" else (2 / slot.fan_in) ** 0.5
        # Five deviations of what a sample of this size has for its mean and deviation.
        assert view.std() == pytest.approx(deviation, rel=5 / (2 * view.size) ** 0.5), slot.name
        assert abs(view.mean()) < 5 * deviation / view.size**0.5, slot.name


def test_activations_keep_their_variance() -> None:
    # What the deviations are for: without sqrt(2/fan_in) thirteen layers shrink or blow up.
    net = vgg16(width=0.2)
    params = np.concatenate(list(start().values()))
    net.bind(params, params)
    sizes = {}
    x = np.random.default_rng(0).standard_normal((2, 64, 64, 1)).astype(np.float32)

    def note(direction: str, layer: str, array: np.ndarray) -> None:
        sizes[layer] = float((np.maximum(array, 0) ** 2).mean())  # as the next layer sees it

    logits = net.forward(x, watch=note)
    assert 0.1 < sizes["conv5_3"] / sizes["conv1_1"] < 10
    assert np.abs(logits).max() < 1  # first predictions are nearly uniform


def test_layers_of_equal_shape_start_different() -> None:
    params = start()
    for a, b in (("conv5_1", "conv5_2"), ("conv5_2", "conv5_3"), ("conv3_2", "conv3_3")):
        one, other = params[f"{a}.weight"], params[f"{b}.weight"]
        assert one.shape == other.shape
        assert abs(np.corrcoef(one, other)[0, 1]) < 5 / one.size**0.5


def test_the_seed_decides() -> None:
    one, same, other = (np.concatenate(list(start(seed).values())) for seed in (3, 3, 4))
    assert one.tobytes() == same.tobytes()
    weights = one != 0
    assert (one[weights] != other[weights]).mean() > 0.99


@pytest.mark.parametrize(("size", "channels", "classes"), [(96, 3, 7), (32, 1, 10)])
def test_other_images(size: int, channels: int, classes: int) -> None:
    net = vgg16(size, channels, classes, width=0.05)
    params, grads = np.zeros((2, net.parameter_count), np.float32)
    initialise(net, params, seed=1)
    net.bind(params, grads)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, size, size, channels)).astype(np.float32)
    logits = net.forward(x, StepKey(0, 0, np.array([1, 2])))
    assert logits.shape == (2, classes)
    net.backward(np.ones_like(logits))
    for slot in net.slots:
        assert grads[slot.lo : slot.hi].any(), slot.name


def test_parts_of_a_start_make_the_whole() -> None:
    net = vgg16(width=0.05)
    whole, shared = np.full((2, net.parameter_count), np.nan, np.float32)
    initialise(net, whole, 3)
    for part in range(3):
        initialise(net, shared, 3, part, 3)
    np.testing.assert_array_equal(shared, whole)
