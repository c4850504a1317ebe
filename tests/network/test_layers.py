"""Layers: their places in the flat vectors, what they remember, and a whole network's gradient."""

from collections.abc import Iterator

import numpy as np
import pytest
from sets import KERNELS

from dist_vgg.kernels import winograd
from dist_vgg.network.layers import Conv, Dropout, Flatten, Layer, Linear, MaxPool, ReLU, StepKey
from dist_vgg.network.layers import StepKey as Key
from dist_vgg.network.sequential import Sequential
from dist_vgg.network.vgg import initialise, vgg16


def small() -> Sequential:
    """A network with a layer of each kind, for images of 4x4x2."""
    layers = [
        Conv("conv", 2, 3),
        ReLU("relu"),
        MaxPool("pool"),
        Flatten("flatten"),
        Linear("fc1", 12, 5),
        Dropout("drop", 0.5),
        Linear("fc2", 5, 4),
    ]
    return Sequential(layers, (4, 4, 2))


def bound(net: Sequential, dtype: type = np.float64) -> tuple[np.ndarray, np.ndarray]:
    """Random parameters and a gradient of NaN, with the network using both."""
    rng = np.random.default_rng(1)
    params = rng.standard_normal(net.parameter_count).astype(dtype)
    grads = np.full(net.parameter_count, np.nan, dtype)
    net.bind(params, grads)
    return params, grads


def images(count: int = 3, side: int = 4, channels: int = 2) -> np.ndarray:
    return np.random.default_rng(2).standard_normal((count, side, side, channels))


def key(*ids: int, seed: int = 0, step: int = 0) -> Key:
    return Key(seed, step, np.array(ids))


def test_parameters_lie_in_layer_order_without_gaps() -> None:
    slots = small().slots
    assert [(s.name, s.shape, s.fan_in, s.is_bias) for s in slots] == [
        ("conv.weight", (3, 3, 2, 3), 18, False),
        ("conv.bias", (3,), 18, True),
        ("fc1.weight", (12, 5), 12, False),
        ("fc1.bias", (5,), 12, True),
        ("fc2.weight", (5, 4), 5, False),
        ("fc2.bias", (4,), 5, True),
    ]
    assert [s.lo for s in slots] == [0, *(s.hi for s in slots[:-1])]
    assert all(s.hi - s.lo == np.prod(s.shape) for s in slots)
    assert small().parameter_count == slots[-1].hi == 54 + 3 + 60 + 5 + 20 + 4


def test_layers_hold_views() -> None:
    net = small()
    params, grads = bound(net)
    conv, fc1 = net.layers[0], net.layers[4]
    assert isinstance(conv, Conv) and isinstance(fc1, Linear)
    params[:] = np.arange(net.parameter_count)
    assert conv.w[0, 0, 0].tolist() == [0, 1, 2]  # filters are (kh, kw, in, out)
    assert conv.b.tolist() == [54, 55, 56]
    assert fc1.w[1].tolist() == [62, 63, 64, 65, 66]
    fc1.dw[0] = 8
    assert grads[57:62].tolist() == [8] * 5


def test_forward_asks_for_parameters_just_before_it_uses_them() -> None:
    net = small()
    params, _ = bound(net)
    values = params.copy()
    params[:] = np.nan
    asked = []

    def need(lo: int, hi: int) -> None:
        asked.append((lo, hi))
        params[:] = np.nan  # no layer reads what another has asked for
        params[lo:hi] = values[lo:hi]

    logits = net.forward(images(), need=need)
    assert asked == [(0, 57), (57, 122), (122, 146)]
    params[:] = values
    assert np.array_equal(logits, net.forward(images()))


def test_binding_again_leaves_the_first_gradient_alone() -> None:
    net = small()
    params, first = bound(net)
    second = first.copy()
    results = []
    for grads in (first, second):
        net.bind(params, grads)
        net.backward(np.ones_like(net.forward(images(), key(1, 2, 3))))
        results.append(grads.copy())
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, results[0])


@pytest.mark.parametrize("kernels", ["reference", *KERNELS])
def test_gradients_of_micro_batches_that_run_together_are_those_of_each_alone(kernels: str) -> None:
    net = vgg16(size=32, width=0.25, kernels=kernels)  # wide enough for Winograd's convolution
    params, rng = np.zeros(net.parameter_count), np.random.default_rng(3)
    initialise(net, params, seed=0)
    counts, labels, x = (3, 5), rng.integers(0, 10, 8), images(8, 32, 1)
    *alone, together = np.full((3, len(params)), np.nan)
    for part, grads in zip((slice(0, 3), slice(3, 8)), alone, strict=True):
        net.bind(params, grads)
        logits = net.forward(x[part], key(*range(8)[part]))
        net.backward(net.ops.cross_entropy(logits, labels[part], 8)[1])
    net.bind(params, together)
    logits = net.forward(x, StepKey(0, 0, np.arange(8), counts))
    net.backward(net.ops.cross_entropy(logits, labels, 8)[1])
    assert np.abs(alone[0] - alone[1]).max() > 1e-3
    # Atol for what is next to zero; kernels that batch in another way round in another way.
    total = alone[0] + alone[1]
    np.testing.assert_allclose(together, total, rtol=1e-10, atol=1e-10 * np.abs(total).max())


def test_output_shapes_are_those_of_the_arrays() -> None:
    net = small()
    bound(net)
    shapes = {}
    net.forward(images(), watch=lambda _, layer, array: shapes.update({layer: array.shape[1:]}))
    shape = net.input_shape
    for layer in net.layers:
        shape = layer.output_shape(shape)
        assert shapes[layer.name] == shape


def test_slices_finish_from_the_end_and_are_final_when_announced() -> None:
    net = small()
    _, grads = bound(net)
    announced: list[tuple[int, int, np.ndarray]] = []
    dy = np.ones_like(net.forward(images(), key(1, 2, 3)))
    net.backward(dy, lambda lo, hi: announced.append((lo, hi, grads[lo:hi].copy())))
    assert [(lo, hi) for lo, hi, _ in announced] == [(122, 146), (57, 122), (0, 57)]
    for lo, hi, then in announced:
        assert np.isfinite(then).all()
        np.testing.assert_array_equal(then, grads[lo:hi])


def test_slices_of_vgg16_cover_the_vector() -> None:
    net = vgg16(size=32, width=0.02)
    bound(net, np.float32)
    end, count = net.parameter_count, 0

    def ready(lo: int, hi: int) -> None:
        nonlocal end, count
        assert lo < hi == end
        end, count = lo, count + 1

    logits = net.forward(images(1, 32, 1).astype(np.float32), key(0))
    net.backward(np.ones_like(logits), ready)
    assert (end, count) == (0, 16)


def remembered(net: Sequential) -> list[str]:
    """Layers that hold an array which isn't a view of the flat vectors, once for each array."""
    return [
        layer.name
        for layer in net.layers
        for name, value in vars(layer).items()
        for array in (value if isinstance(value, tuple) else (value,))
        if isinstance(array, np.ndarray) and name not in ("w", "b", "dw", "db")
    ]


def test_training_remembers_until_backward_and_evaluation_nothing() -> None:
    net = small()
    bound(net)
    logits = net.forward(images(), key(1, 2, 3))
    assert remembered(net) == ["conv", "relu", "pool", "fc1", "drop", "fc2"]
    net.backward(np.ones_like(logits))
    assert remembered(net) == []
    net.forward(images(), key(1, 2, 3))
    net.forward(images())
    assert remembered(net) == []


def test_a_rectified_convolution_remembers_its_output_as_well() -> None:
    net = Sequential([Conv("conv", 2, 3, relu=True)], (4, 4, 2))
    bound(net)
    y = net.forward(images(), key(1, 2, 3))
    assert remembered(net) == ["conv", "conv"]
    net.backward(np.ones_like(y))
    assert remembered(net) == []


@pytest.mark.parametrize("side", [4, 8])  # two images: the direct convolution, and the fast one
def test_a_convolution_without_dx_has_the_same_other_gradients(side: int) -> None:
    results = []
    for need_dx in (True, False):
        net = Sequential([Conv("conv", 16, 16, need_dx=need_dx)], (side, side, 16))
        _, grads = bound(net)
        y = net.layers[0].forward(images(2, side, 16), key(1, 2))
        assert (net.layers[0].backward(np.ones_like(y)) is not None) == need_dx
        results.append(grads)
    assert np.isfinite(results[0]).all()
    np.testing.assert_array_equal(*results)


def test_a_rectified_convolution_is_a_convolution_and_a_rectifier() -> None:
    results = []
    for layers in ([Conv("conv", 2, 3, relu=True)], [Conv("conv", 2, 3), ReLU("relu")]):
        net = Sequential(layers, (4, 4, 2))
        _, grads = bound(net)
        seen = {}
        y = net.forward(images(), key(1, 2, 3)).copy()
        dy = np.random.default_rng(3).standard_normal(y.shape)
        net.backward(dy, watch=lambda _, layer, array, seen=seen: seen.update({layer: array}))
        results.append((y, grads, seen["conv"]))
    assert 0.2 < (results[0][0] == 0).mean() < 0.8
    for found, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("number", [0, 1, 2, 4, 5, 6])
def test_backward_without_forward_says_so(number: int) -> None:
    net = small()
    bound(net)
    layer = net.layers[number]
    with pytest.raises(AssertionError, match=f"{layer.name}: backward without a forward pass"):
        layer.backward(np.ones((3, 4)))
    # Nor twice, nor after an evaluation.
    net.backward(np.ones_like(net.forward(images(), key(1, 2, 3))))
    net.forward(images())
    with pytest.raises(AssertionError, match="fc2: backward without a forward pass"):
        net.backward(np.ones((3, 4)))


def test_forward_leaves_the_images_alone() -> None:
    net = small()
    bound(net)
    x = images()
    net.forward(x, key(1, 2, 3))
    np.testing.assert_array_equal(x, images())


def mask(name: str, key: Key, units: int = 64, rate: float = 0.5) -> np.ndarray:
    """What a dropout layer keeps of each sample."""
    return Dropout(name, rate).forward(np.ones((len(key.ids), units)), key) > 0


def test_a_mask_does_not_depend_on_the_rest_of_the_batch() -> None:
    together = mask("drop6", key(5, 1000, 7))
    for row, sample in ((0, 5), (1, 1000), (2, 7)):
        np.testing.assert_array_equal(mask("drop6", key(sample))[0], together[row])
    np.testing.assert_array_equal(mask("drop6", key(7, 5)), together[[2, 0]])


def test_a_mask_depends_on_seed_layer_step_and_sample() -> None:
    masks = [
        mask("drop6", key(5)),
        mask("drop7", key(5)),
        mask("drop6", key(6)),
        mask("drop6", key(5, step=1)),
        mask("drop6", key(5, seed=1)),
        mask("drop6", key(0, step=5)),
    ]
    assert len({m.tobytes() for m in masks}) == len(masks)


def test_more_units_extend_a_mask() -> None:
    # 16 bits for each unit from words of 64: a width that is no multiple of 4 is cut.
    np.testing.assert_array_equal(mask("drop6", key(5), 61), mask("drop6", key(5), 64)[:, :61])


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.95])
def test_dropout_keeps_its_share_and_the_mean(rate: float) -> None:
    x = np.ones((25, 4096))
    y = Dropout("drop6", rate).forward(x, key(*range(25)))
    # Six deviations of a binomial share.
    slack = 6 * (rate * (1 - rate) / x.size) ** 0.5
    assert abs((y > 0).mean() - (1 - rate)) < slack
    assert abs(y.mean() - 1) < slack / (1 - rate)
    assert set(np.unique(y)) == {0, 1 / (1 - rate)}


def test_dropout_backward_uses_the_mask_of_forward() -> None:
    drop = Dropout("drop6", 0.5)
    y = drop.forward(np.ones((2, 64)), key(3, 4))
    np.testing.assert_array_equal(drop.backward(np.ones((2, 64))), y)


@pytest.mark.parametrize(("rate", "where"), [(0.0, key(3, 4)), (0.5, None)])
def test_dropout_does_nothing_at_rate_zero_or_in_evaluation(rate: float, where: Key | None) -> None:
    x = np.ones((2, 8))
    drop = Dropout("drop6", rate)
    np.testing.assert_array_equal(drop.forward(x, where), x)
    if where:
        np.testing.assert_array_equal(drop.backward(x), x)


def test_watch_sees_every_layer_in_order() -> None:
    net = small()
    bound(net)
    seen: list[tuple[str, str]] = []
    watch = lambda direction, layer, array: seen.append((direction, layer))  # noqa: E731
    net.backward(np.ones_like(net.forward(images(), key(1, 2, 3), watch)), watch=watch)
    names = [layer.name for layer in net.layers]
    assert seen == [("forward", n) for n in names] + [("backward", n) for n in reversed(names)]


def narrow_vgg(width: float, kernels: str) -> tuple[Sequential, np.ndarray, np.ndarray]:
    """VGG16 with dropout in float64, off the kinks that zero biases lie on."""
    net = vgg16(size=32, width=width, kernels=kernels)
    params, grads = np.zeros((2, net.parameter_count))
    initialise(net, params, seed=3)
    params += 0.02 * np.random.default_rng(4).standard_normal(len(params))
    net.bind(params, grads)
    return net, params, grads


def directions(net: Sequential) -> Iterator[tuple[str, np.ndarray]]:
    """For each parameter array, a random direction in it of length one."""
    rng = np.random.default_rng(5)
    for slot in net.slots:
        direction = np.zeros(net.parameter_count)
        direction[slot.lo : slot.hi] = rng.standard_normal(slot.hi - slot.lo)
        yield slot.name, direction / np.linalg.norm(direction)


@pytest.mark.parametrize(
    ("kernels", "width", "fast"),
    [("numpy", 0.05, 0), ("numpy", 0.1, 2), *((name, 0.1, 0) for name in KERNELS[1:])],
)
def test_gradient_of_a_whole_network(
    kernels: str, width: float, fast: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, params, grads = narrow_vgg(width, kernels)
    taken: list[np.ndarray] = []
    right = winograd.conv2d_backward
    monkeypatch.setattr(
        winograd, "conv2d_backward", lambda dy, *rest: taken.append(dy) or right(dy, *rest)
    )
    x, labels = images(2, 32, 1), np.array([3, 7])

    def losses() -> tuple[float, np.ndarray]:
        each, dlogits = net.ops.cross_entropy(net.forward(x, key(11, 12)), labels, 5)
        return each.sum() / 5, dlogits

    net.backward(losses()[1])
    assert len(taken) == fast
    start, step = params.copy(), 1e-6
    for name, direction in directions(net):
        params[:] = start + step * direction
        ahead = losses()[0]
        params[:] = start - step * direction
        behind = losses()[0]
        slope = (ahead - behind) / (2 * step)
        assert slope == pytest.approx(grads @ direction, rel=1e-4, abs=1e-8), name


def test_a_layer_is_abstract() -> None:
    with pytest.raises(NotImplementedError):
        Layer("nothing").forward(images(), None)
    with pytest.raises(NotImplementedError):
        Layer("nothing").backward(images())


def test_gradients_of_the_last_layers_follow_from_their_factors() -> None:
    layers = [Linear("ahead", 12, 12), ReLU("relu"), *small().layers[4:]]
    net = Sequential([Flatten("flatten"), *layers], (2, 2, 3))
    assert [slot.name for slot in net.products] == ["ahead.weight", "fc1.weight", "fc2.weight"]
    net = small()
    assert [slot.name for slot in net.products] == ["fc1.weight", "fc2.weight"]
    found: dict[int, list[np.ndarray]] = {}
    vectors = []
    for take in (None, lambda lo, x, dy: found.update({lo: [x.copy(), dy.copy()]})):
        _, grads = bound(net)
        logits = net.forward(images(), Key(0, 0, np.arange(3)))
        net.backward(np.ones_like(logits) * logits, factors=take)
        vectors.append(grads)
    whole, rest = vectors
    start = net.products[0].lo
    np.testing.assert_array_equal(rest[:start], whole[:start])
    assert np.isnan(rest[start:]).all()  # nobody has written what follows from factors
    assert sorted(found) == [slot.lo for slot in net.products]
    for slot in net.products:
        x, dy = found[slot.lo]
        np.testing.assert_allclose((x.T @ dy).ravel(), whole[slot.lo : slot.hi])
        np.testing.assert_allclose(dy.sum(axis=0), whole[slot.hi :][: dy.shape[1]])
