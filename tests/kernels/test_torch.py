"""The network, its operations and the optimizers against PyTorch, where it is installed."""

from typing import Any

import numpy as np
import pytest
from sets import KERNELS

from dist_vgg.kernels import reference as F
from dist_vgg.kernels import winograd
from dist_vgg.network.layers import Conv, Linear, MaxPool, ReLU, StepKey
from dist_vgg.network.sequential import Sequential
from dist_vgg.network.vgg import initialise, vgg16
from dist_vgg.training import optim

torch = pytest.importorskip("torch", reason="PyTorch is not installed; it only serves to compare")


def close(found: np.ndarray, expected: Any) -> None:
    """Equal to 1e-4, relative; or to 1e-5 of the largest number in the array.

    A gradient is a sum of many float32 products that partly cancel. Its rounding error goes
    with the products, not with what is left, so small elements can't be held to their own size.
    """
    expected = expected.detach().numpy()
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def nchw(x: np.ndarray) -> Any:
    """Images, or their gradients, in PyTorch's layout; a leaf whose gradient is asked for."""
    return torch.tensor(np.ascontiguousarray(x.transpose(0, 3, 1, 2)), requires_grad=True)


def nhwc(x: Any) -> Any:
    return x.permute(0, 2, 3, 1)


def leaf(x: np.ndarray) -> Any:
    return torch.tensor(x, requires_grad=True)


def oihw(w: Any) -> Any:
    """Filters (kh, kw, in, out) in PyTorch's layout."""
    return w.permute(3, 2, 0, 1)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(
    ("kernel", "shape", "filters"), [(F, (3, 8, 6, 5), 4), (winograd, (3, 8, 12, 20), 24)]
)
def test_conv(kernel: Any, shape: tuple[int, ...], filters: int, relu: bool) -> None:
    *_, channels = shape
    x, w, b = normal(*shape), normal(3, 3, channels, filters, seed=1), normal(filters)
    dy = normal(*shape[:3], filters, seed=2)
    tx, tw, tb, tdy = nchw(x), leaf(w), leaf(b), torch.tensor(dy)
    expected = nhwc(torch.nn.functional.conv2d(tx, oihw(tw), tb, padding=1))
    if relu:
        expected = torch.relu(expected)
    expected.backward(tdy)
    y = kernel.conv2d_forward(x, w, b, relu)
    dw, db = np.empty_like(w), np.empty_like(b)
    dx = kernel.conv2d_backward(dy, x, w, dw, db, y=y if relu else None)
    close(y, expected)
    close(dx, nhwc(tx.grad))
    close(dw, tw.grad)
    close(db, tb.grad)


@pytest.mark.parametrize("levels", [0, 3])
def test_maxpool(levels: int) -> None:
    x, dy = normal(3, 8, 6, 5), normal(3, 4, 3, 5, seed=1)
    if levels:  # only a few different numbers, so that most windows have equal ones
        x = np.random.default_rng(0).integers(0, levels, x.shape).astype(np.float32)
    y, choice = F.maxpool_forward(x)
    tx = nchw(x)
    expected = nhwc(torch.nn.functional.max_pool2d(tx, 2))
    expected.backward(torch.tensor(dy))
    close(y, expected)
    close(F.maxpool_backward(dy, choice), nhwc(tx.grad))


def test_relu() -> None:
    x, dy = normal(3, 8), normal(3, 8, seed=1)
    x[0] = 0  # PyTorch, too, takes the derivative at the kink for zero
    tx = leaf(x)
    expected = torch.relu(tx)
    expected.backward(torch.tensor(dy))
    y = F.relu_forward(x)
    close(y, expected)
    close(F.relu_backward(dy, y), tx.grad)


def test_linear() -> None:
    x, w, b, dy = normal(3, 8), normal(8, 5, seed=1), normal(5, seed=2), normal(3, 5, seed=3)
    dw, db = np.empty_like(w), np.empty_like(b)
    tx, tw, tb = leaf(x), leaf(w), leaf(b)
    expected = torch.nn.functional.linear(tx, tw.T, tb)
    expected.backward(torch.tensor(dy))
    close(F.linear_forward(x, w, b), expected)
    close(F.linear_backward(dy, x, w, dw, db), tx.grad)
    close(dw, tw.grad)
    close(db, tb.grad)


def test_dropout() -> None:
    x, dy = normal(30, 80), normal(30, 80, seed=1)
    torch.manual_seed(0)
    tx = leaf(x)
    expected = torch.nn.functional.dropout(tx, 0.3)
    expected.backward(torch.tensor(dy))
    keep = expected.detach().numpy() != 0
    close(F.dropout_forward(x, keep, 0.3), expected)
    close(F.dropout_forward(dy, keep, 0.3), tx.grad)


def test_softmax_and_cross_entropy() -> None:
    logits, labels = 5 * normal(6, 10), np.array([0, 9, 3, 3, 5, 1])
    t, t_labels = leaf(logits), torch.tensor(labels)
    expected = torch.nn.functional.cross_entropy(t, t_labels, reduction="none")
    (expected.sum() / 17).backward()
    losses, dlogits = F.cross_entropy(logits, labels, 17)
    close(losses, expected)
    close(dlogits, t.grad)
    close(F.softmax(logits), torch.softmax(t, dim=1))


def torch_logits(
    net: Sequential, leaves: dict[str, Any], x: np.ndarray, masks: dict[str, np.ndarray]
) -> Any:
    """The same network in PyTorch: NCHW inside, with our parameters and dropout masks."""
    y = nchw(x)
    for layer in net.layers:
        if isinstance(layer, Conv | Linear):
            w, b = leaves[f"{layer.name}.weight"], leaves[f"{layer.name}.bias"]
        if isinstance(layer, Conv):
            y = torch.nn.functional.conv2d(y, oihw(w), b, padding=1)
            y = torch.relu(y) if layer.relu else y
        elif isinstance(layer, Linear):
            if layer.name == "fc6":
                # Its rows are in our order (H,W,C); PyTorch flattens (C,H,W).
                side = net.input_shape[0] // 32
                w = w.reshape(side, side, -1, w.shape[1]).permute(2, 0, 1, 3).flatten(0, 2)
            y = torch.nn.functional.linear(y, w.T, b)
        elif isinstance(layer, MaxPool):
            y = torch.nn.functional.max_pool2d(y, 2)
        elif isinstance(layer, ReLU):
            y = torch.relu(y)
        elif layer.name == "flatten":
            y = y.flatten(1)
        else:
            y = y * torch.tensor(masks[layer.name])
    return y


@pytest.mark.parametrize("kernels", [*KERNELS, "reference"])
@pytest.mark.parametrize(
    ("size", "channels", "width", "dropout"), [(64, 1, 0.125, 0.5), (96, 3, 0.06, 0.0)]
)
def test_logits_and_all_gradients(
    size: int, channels: int, width: float, dropout: float, kernels: str
) -> None:
    net = vgg16(size, channels, 10, width, dropout, kernels)
    params, grads = np.zeros((2, net.parameter_count), np.float32)
    initialise(net, params, seed=1)
    # Fresh biases are zero: one that is used wrongly would not show.
    params += 0.02 * normal(len(params), seed=2)
    net.bind(params, grads)
    x, labels = normal(3, size, size, channels, seed=3), np.array([1, 8, 4])

    key = StepKey(0, 5, np.array([10, 20, 30]))
    masks: dict[str, np.ndarray] = {}
    before = np.empty(0)

    def watch(direction: str, layer: str, array: np.ndarray) -> None:
        nonlocal before
        if layer.startswith("drop"):
            # What dropout multiplied by; units that were zero before don't matter.
            masks[layer] = np.divide(array, before, out=np.zeros_like(array), where=before != 0)
        before = array

    logits = net.forward(x, key, watch)
    net.backward(F.cross_entropy(logits, labels, len(labels))[1])

    leaves = {s.name: leaf(params[s.lo : s.hi].reshape(s.shape)) for s in net.slots}
    expected = torch_logits(net, leaves, x, masks)
    torch.nn.functional.cross_entropy(expected, torch.tensor(labels)).backward()
    close(logits, expected)
    for slot in net.slots:
        close(grads[slot.lo : slot.hi].reshape(slot.shape), leaves[slot.name].grad)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [
        pytest.param(optim.SGD(0.0), "SGD", {}, id="plain"),
        pytest.param(optim.SGD(0.9), "SGD", dict(momentum=0.9), id="momentum"),
        pytest.param(
            optim.SGD(0.9, nesterov=True), "SGD", dict(momentum=0.9, nesterov=True), id="nesterov"
        ),
        pytest.param(optim.Adam(), "Adam", {}, id="adam"),
        pytest.param(optim.Adam(0.8, 0.99, 1e-3), "Adam", dict(betas=(0.8, 0.99), eps=1e-3)),
        pytest.param(optim.AdaGrad(), "Adagrad", {}, id="adagrad"),
    ],
)
def test_optimizers(ours: optim.Optimizer, theirs: str, options: dict, decay: float) -> None:
    # In float64, so that only the same formula agrees this far.
    rng = np.random.default_rng(0)
    w = rng.standard_normal(100)
    state = tuple(np.zeros_like(w) for _ in ours.state_names)
    expected = torch.nn.Parameter(torch.tensor(w))
    optimizer = getattr(torch.optim, theirs)([expected], lr=0.05, weight_decay=decay, **options)
    for step in range(1, 11):
        g = rng.standard_normal(100)
        expected.grad = torch.tensor(g)
        optimizer.step()
        ours.update(w, g, state, 0.05, step, decay)
        np.testing.assert_allclose(w, expected.detach().numpy(), rtol=1e-10, atol=1e-12)
