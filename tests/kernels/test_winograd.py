"""Winograd's convolution against the direct one, and where the network uses it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from dist_vgg.kernels import numpy_set, winograd
from dist_vgg.kernels import reference as F
from dist_vgg.kernels import winograd_transforms as transforms
from dist_vgg.network.layers import Conv, StepKey
from dist_vgg.network.sequential import Sequential
from dist_vgg.network.vgg import initialise, vgg16

KEY = StepKey(0, 0, np.arange(1))


class Inputs(NamedTuple):
    x: np.ndarray
    w: np.ndarray
    b: np.ndarray
    dy: np.ndarray

    def astype(self, dtype: type) -> "Inputs":
        return Inputs(*(array.astype(dtype) for array in self))


def inputs(n: int, height: int, width: int, channels: int, filters: int) -> Inputs:
    """What a layer in the middle of the network meets: rectified images, and He's weights."""
    rng = np.random.default_rng(0)
    return Inputs(
        np.maximum(rng.standard_normal((n, height, width, channels)), 0),
        rng.standard_normal((3, 3, channels, filters)) * (2 / (9 * channels)) ** 0.5,
        rng.standard_normal(filters) / 10,
        rng.standard_normal((n, height, width, filters)),
    )


def elsewhere(array: np.ndarray, numbers: int) -> np.ndarray:
    """A copy that begins so many numbers after a place where memory is aligned."""
    memory = np.empty(array.size + 128, array.dtype)
    start = -memory.ctypes.data % 256 // memory.itemsize + numbers
    copy = memory[start : start + array.size].reshape(array.shape)
    copy[:] = array
    return copy


def results(
    kernel: Any, given: Inputs, relu: bool = False, need_dx: bool = True, shift: int = 0
) -> dict[str, np.ndarray | None]:
    """All that forward and backward write: over NaN, and with dy as backward leaves it."""
    gradients = np.full_like(given.w, np.nan), np.full_like(given.b, np.nan)
    x, w, b, dy, dw, db = (elsewhere(array, shift) for array in (*given, *gradients))
    y = kernel.conv2d_forward(x, w, b, relu)
    kept = y.copy()
    dx = kernel.conv2d_backward(dy, x, w, dw, db, need_dx, *[y] * relu)
    np.testing.assert_array_equal(y, kept)
    return dict(y=y, dx=dx, dw=dw, db=db, dy=dy)


# ---- The real network's layers, in float32


def layer_shapes() -> list[tuple[int, int, int]]:
    """(side, channels, filters) of VGG16's convolutions with enough channels."""
    net = vgg16()
    shape, found = net.input_shape, []
    for layer in net.layers:
        if isinstance(layer, Conv) and shape[2] >= winograd.FEWEST_CHANNELS:
            found.append((shape[0], *layer.weight_shape[2:]))
        shape = layer.output_shape(shape)
    return list(dict.fromkeys(found))


def test_layer_shapes_are_those_of_vgg16() -> None:
    assert layer_shapes() == [
        (64, 64, 64),
        (32, 64, 128),
        (32, 128, 128),
        (16, 128, 256),
        (16, 256, 256),
        (8, 256, 512),
        (8, 512, 512),
        (4, 512, 512),
    ]


@pytest.mark.parametrize(
    ("images", "side", "channels", "filters"),
    [
        *((max(1, winograd.FEWEST_TILES * 16 // s**2), s, c, f) for s, c, f in layer_shapes()),
        (2, 64, 64, 64),  # two blocks
        (9, 8, 512, 512),  # not so few tiles
    ],
)
def test_layers_in_float32_against_the_direct_convolution_in_float64(
    images: int, side: int, channels: int, filters: int
) -> None:
    given = inputs(images, side, side, channels, filters).astype(np.float32)
    assert winograd.suits(given.x.shape, filters)
    expected = results(F, given.astype(np.float64))
    for name, found in results(winograd, given).items():
        assert found is not None and found.dtype == np.float32
        wanted = expected[name]
        assert wanted is not None
        error = np.abs(found - wanted).max() / np.abs(wanted).max()
        assert error <= 8e-6, name  # with points 1 and 2 it would be 1.1e-5


# ---- All its ways through blocks, parts and tiles, in float64

SHAPES = [
    (1, 4, 4),  # one tile: padding on all sides
    (5, 4, 4),
    (1, 4, 8),
    (1, 8, 4),
    (2, 12, 4),
    (2, 4, 12),
    (3, 8, 8),
    (5, 8, 12),
    (2, 20, 16),
    (70, 8, 8),  # more than a block of the real size
]
CHANNELS, FILTERS = 5, 7
TILE_BYTES = 36 * 8  # of one channel and filter
# What to set, so that little data meets what else needs much.
WAYS: dict[str, dict[str, int]] = {
    "as it is": {},
    "blocks": dict(BLOCK=8),
    "an image in each block": dict(BLOCK=1),
    "parts": dict(FILTER_BYTES=3 * FILTERS * TILE_BYTES),
    "parts and blocks": dict(FILTER_BYTES=3 * FILTERS * TILE_BYTES, BLOCK=8),
    "larger parts": dict(FILTER_BYTES=3 * FILTERS * TILE_BYTES, FEW_TILES=0),
    "parts of one filter": dict(FILTER_BYTES=1, BLOCK=8),
    "rows in halves": dict(SMALL=2 * CHANNELS * FILTERS, FEWEST_ROWS=2),
    "rows in halves, parts": dict(SMALL=42, FEWEST_ROWS=1, FILTER_BYTES=3 * FILTERS * TILE_BYTES),
    "filters as a view": dict(SMALL=0, FEWEST_ROWS=1),
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in WAYS[request.param].items():
        monkeypatch.setattr(winograd, name, value)
    return request.param


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("shape", SHAPES)
def test_in_float64_it_is_the_direct_convolution(shape: tuple[int, int, int]) -> None:
    given = inputs(*shape, CHANNELS, FILTERS)
    for relu in (False, True):
        for need_dx in (True, False):
            expected = results(F, given, relu, need_dx)
            for name, found in results(winograd, given, relu, need_dx).items():
                wanted = expected[name]
                if wanted is None:
                    assert found is None and (name, need_dx) == ("dx", False)
                else:
                    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-11, err_msg=name)


def lengths(slices: list[slice], size: int) -> list[int]:
    return [len(range(size)[s]) for s in slices]


@pytest.mark.parametrize(
    ("way", "blocks", "forward", "backward"),
    [
        ("as it is", [5], [7], [5]),
        ("blocks", [2, 2, 1], [7], [5]),
        ("an image in each block", [1] * 5, [7], [5]),
        ("parts and blocks", [2, 2, 1], [2, 2, 2, 1], [2, 2, 1]),
        ("larger parts", [5], [4, 3], [3, 2]),
        ("parts of one filter", [2, 2, 1], [1] * 7, [1] * 5),
    ],
    indirect=["way"],
)
def test_ways_are_what_they_are_called(
    way: str, blocks: list[int], forward: list[int], backward: list[int]
) -> None:
    assert lengths(winograd._blocks(5, tiles=4), 5) == blocks
    w = inputs(5, 8, 8, CHANNELS, FILTERS).w
    for sizes, is_backward in ((forward, False), (backward, True)):
        filters = winograd._Filters(w, 20, is_backward)
        assert lengths(filters.parts, 100) == sizes
        assert filters.whole == (len(sizes) == 1)


def test_a_block_of_the_real_size_is_left_uneven() -> None:
    tiles = 4
    assert lengths(winograd._blocks(70, tiles), 70) == [winograd.BLOCK // tiles, 6]


@pytest.mark.parametrize("tiles", [1, 6, 7, 12, 16])
@pytest.mark.usefixtures("way")
def test_multiply_is_a_product_at_each_place(tiles: int) -> None:
    rng = np.random.default_rng(0)
    v = rng.standard_normal((2, tiles, 3, 6, CHANNELS))
    u = rng.standard_normal((2, 6, CHANNELS, FILTERS))
    m = np.full((2, tiles, 3, 6, FILTERS + 2), np.nan)
    winograd._multiply(v, u, m[..., 1:-1])  # as for a part of the filters
    expected = np.einsum("pmtic,picf->pmtif", v, u)
    np.testing.assert_allclose(m[..., 1:-1], expected, rtol=0, atol=1e-12)
    assert np.isnan(m[..., [0, -1]]).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_backward_is_the_adjoint(shape: tuple[int, int, int]) -> None:
    x, w, b, dy = inputs(*shape, CHANNELS, FILTERS)
    found = results(winograd, Inputs(x, w, np.zeros_like(b), dy))
    product = np.vdot(dy, found["y"])
    size = np.linalg.norm(dy) * np.linalg.norm(found["y"])
    for point, gradient in ((x, found["dx"]), (w, found["dw"])):
        assert np.vdot(point, gradient) == pytest.approx(product, rel=0, abs=1e-13 * size)
    np.testing.assert_allclose(found["db"], dy.sum(axis=(0, 1, 2)), rtol=1e-12, atol=1e-12)


# ---- The transforms


def test_transforms_filter_exactly() -> None:
    # For all pairs of unit vectors: it is bilinear, so this is all of it.
    for d in np.eye(6):
        for g in np.eye(3):
            found = transforms.AT @ ((transforms.G @ g) * (transforms.BT @ d))
            np.testing.assert_allclose(found, np.correlate(d, g, "valid"), rtol=0, atol=1e-15)


def test_float32_holds_the_transforms_of_images_exactly() -> None:
    for matrix in (transforms.BT, transforms.AT):
        np.testing.assert_array_equal(matrix, matrix.astype(np.float32))


def test_transforms_filter_random_lines() -> None:
    rng = np.random.default_rng(0)
    for d, g in zip(rng.standard_normal((20, 6)), rng.standard_normal((20, 3)), strict=True):
        found = transforms.AT @ ((transforms.G @ g) * (transforms.BT @ d))
        np.testing.assert_allclose(found, np.correlate(d, g, "valid"), rtol=0, atol=1e-13)


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_cut_makes_overlapping_tiles_and_join_is_its_adjoint(count: int) -> None:
    rng = np.random.default_rng(0)
    x, dtiles = rng.standard_normal((3, 4 * count, 5)), rng.standard_normal((3, count, 6, 5))
    tiles, dx = np.full_like(dtiles, np.nan), np.full_like(x, np.nan)
    transforms.cut(x, tiles)
    padded = np.pad(x, ((0, 0), (1, 1), (0, 0)))
    expected = [transforms.BT @ padded[:, 4 * t : 4 * t + 6] for t in range(count)]
    np.testing.assert_allclose(tiles, np.stack(expected, axis=1), rtol=0, atol=1e-13)
    transforms.join(dtiles, dx)
    assert np.vdot(tiles, dtiles) == pytest.approx(np.vdot(x, dx), rel=0, abs=1e-12)


# ---- The same bits


@pytest.mark.parametrize(
    "shape", [(5, 16, 16, 16, 16), (2, 8, 8, 96, 128), (8, 4, 4, 512, 384)], ids=str
)
def test_same_input_same_bits_wherever_it_lies(shape: tuple[int, ...]) -> None:
    # Ranks and routes put the same numbers at other addresses.
    given = inputs(*shape).astype(np.float32)
    expected = results(winograd, given, relu=True)
    for shift in (0, 1, 5):
        found = results(winograd, given, relu=True, shift=shift)
        for name, wanted in expected.items():
            assert wanted is not None
            np.testing.assert_array_equal(found[name], wanted, err_msg=name)


# ---- Where it is used

T, C = winograd.FEWEST_TILES, winograd.FEWEST_CHANNELS


@pytest.mark.parametrize(
    ("shape", "filters", "expected"),
    [
        ((1, 64, 64, 64), 64, True),
        ((4, 64, 64, 1), 64, False),  # the network's first layer
        ((2, 8, 8, 512), 512, True),
        ((1, 8, 8, 512), 512, False),
        ((16, 2, 2, 512), 512, False),
        ((T, 4, 4, C), C, True),
        ((T - 1, 4, 4, C), C, False),
        ((1, 4, 4 * T, C), C, True),
        ((1, 4 * T, 4, C), C, True),
        ((1, 4, 4 * T - 4, C), C, False),
        ((T, 4, 4, C - 1), C, False),
        ((T, 4, 4, C), C - 1, False),
        ((T, 6, 8, C), C, False),
        ((T, 8, 6, C), C, False),
        ((T, 7, 7, C), C, False),
    ],
)
def test_suits(shape: tuple[int, ...], filters: int, expected: bool) -> None:
    assert winograd.suits(shape, filters) is expected


class Spied:
    """A module that notes which of its convolutions a layer takes."""

    def __init__(self, module: Any, calls: list[tuple[str, str]]) -> None:
        self.module, self.calls = module, calls

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("conv2d_"):
            self.calls.append(
                (self.module.__name__.rpartition(".")[2], name.removeprefix("conv2d_"))
            )
        function: Callable[..., Any] = getattr(self.module, name)
        return function


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """(kernel, direction) of each convolution that a layer calls from now on."""
    noted: list[tuple[str, str]] = []
    monkeypatch.setattr(numpy_set, "reference", Spied(F, noted))
    monkeypatch.setattr(numpy_set, "winograd", Spied(winograd, noted))
    return noted


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("images", "kernel"), [(T, "winograd"), (T - 1, "reference")])
def test_a_layer_takes_the_kernel_that_suits(
    calls: list[tuple[str, str]], relu: bool, images: int, kernel: str
) -> None:
    given = inputs(images, 4, 4, C, C + 1)
    expected = results(F, given, relu)
    layer = Conv("conv", C, C + 1, relu)
    dw, db = np.full_like(given.w, np.nan), np.full_like(given.b, np.nan)
    layer.bind([given.w, given.b], [dw, db])
    found = dict(y=layer.forward(given.x, KEY), dx=layer.backward(given.dy.copy()), dw=dw, db=db)
    assert calls == [(kernel, "forward"), (kernel, "backward")]
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=1e-11, err_msg=name)


def network(kernels: str) -> tuple[Sequential, np.ndarray, np.ndarray]:
    """A narrow VGG16 as training starts with it, its parameters and its gradient."""
    net = vgg16(size=32, width=0.25, dropout=0, kernels=kernels)
    params, grads = np.zeros((2, net.parameter_count), np.float32)
    initialise(net, params, seed=0)
    net.bind(params, grads)
    return net, params, grads


def test_convolutions_of_a_network(calls: list[tuple[str, str]]) -> None:
    # Two images have 8 tiles or more up to block 3; the first layer has one channel.
    kernels = ["reference"] + ["winograd"] * 6 + ["reference"] * 6
    net, *_ = network("numpy")
    logits = net.forward(np.ones((2, 32, 32, 1), np.float32), KEY)
    net.backward(np.ones_like(logits))
    expected = [(kernel, "forward") for kernel in kernels]
    assert calls == expected + [(kernel, "backward") for kernel in reversed(kernels)]


def losses(kernels: str, steps: int) -> np.ndarray:
    """The loss at each step of plain gradient descent on images with a bar for their label."""
    net, params, grads = network(kernels)
    labels = np.arange(10)
    x = np.random.default_rng(0).standard_normal((10, 32, 32, 1), np.float32) / 2
    for image, label in zip(x, labels, strict=True):
        image[3 * label : 3 * label + 4] += 2
    x -= x.mean()
    found = np.empty(steps)
    for step in range(steps):
        each, dlogits = F.cross_entropy(net.forward(x, KEY), labels, len(labels))
        net.backward(dlogits)
        params -= np.float32(0.002) * grads
        found[step] = each.mean()
    return found


def test_training_takes_the_same_course() -> None:
    # Not for ever: sooner or later a pixel is the largest of its window, or positive, in one run
    # and not in the other, and from there on their difference grows with each step.
    fast, reference = losses("numpy", 16), losses("reference", 16)
    np.testing.assert_allclose(fast[:10], reference[:10], rtol=1e-3)
    np.testing.assert_allclose(fast, reference, rtol=1e-2)
    assert reference[-1] < 0.85 * reference[0]
