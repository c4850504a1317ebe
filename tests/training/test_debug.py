"""Debug mode: does it find what is wrong, and name it?"""

import numpy as np
import pytest
from narrow_network import KEY, LABELS, images, network

from dist_vgg.base.errors import UserError
from dist_vgg.kernels import reference as F
from dist_vgg.training.debug import LayerMonitor, first_nonfinite, nonfinite


@pytest.mark.parametrize(
    ("values", "word"), [([1, 2], ""), ([1, np.nan, np.inf], "NaN"), ([1, -np.inf], "Inf")]
)
def test_nonfinite(values: list[float], word: str) -> None:
    assert nonfinite(np.array(values)) == word


@pytest.mark.parametrize(
    ("layer", "value", "word"),
    [
        ("conv3_1", np.nan, "NaN"),
        ("conv3_1", np.inf, "Inf"),
        # The rectifier of other layers makes it 0; the last one of a block has none.
        ("conv3_3", -np.inf, "Inf"),
        ("conv3_3", np.nan, "NaN"),
        ("fc7", -np.inf, "Inf"),
    ],
)
def test_a_bad_parameter_is_traced_to_its_layer(layer: str, value: float, word: str) -> None:
    net, params, _ = network()
    slot = next(s for s in net.slots if s.name == f"{layer}.bias")
    params[slot.lo] = value
    with pytest.raises(UserError, match=f"{word} in the output of layer {layer};"):
        net.forward(images(), KEY, LayerMonitor())


def test_a_bad_image_is_traced_to_the_first_layer() -> None:
    net, _, grad = network()
    x = images()
    x[1, 5, 5] = np.nan
    with pytest.raises(UserError, match="NaN in the output of layer conv1_1; lower --lr or check"):
        net.forward(x, KEY, LayerMonitor())
    assert first_nonfinite(net, grad, x, LABELS, KEY) == "the output of layer conv1_1"


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "Inf")])
def test_a_bad_gradient_is_traced_to_the_layer_that_made_it(
    value: float, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, _, _ = network()
    pool = next(layer for layer in net.layers if layer.name == "pool4")
    right = pool.backward

    def wrong(dy: np.ndarray) -> np.ndarray:
        dx = right(dy)
        assert dx is not None
        dx[0, 0, 0, 0] = value
        return dx

    monkeypatch.setattr(pool, "backward", wrong)
    monitor = LayerMonitor()
    logits = net.forward(images(), KEY, monitor)
    with pytest.raises(UserError, match=f"{word} in the gradient of layer pool4;"):
        net.backward(F.cross_entropy(logits, LABELS, 2)[1], watch=monitor)


def test_first_nonfinite_is_the_first() -> None:
    net, params, grad = network()
    for name in ("conv5_2.weight", "fc7.bias"):
        slot = next(s for s in net.slots if s.name == name)
        params[slot.lo : slot.hi] = np.nan
    found = first_nonfinite(net, grad, images(), LABELS, KEY)
    assert found == "the output of layer conv5_2"


def test_where_all_is_finite_nothing_is_named() -> None:
    net, _, grad = network()
    assert first_nonfinite(net, grad, images(), LABELS, KEY) == ""


def test_table_has_a_line_for_each_layer() -> None:
    net, params, grads = network()
    monitor = LayerMonitor()
    logits = net.forward(images(), KEY, monitor)
    net.backward(F.cross_entropy(logits, LABELS, 2)[1], watch=monitor)
    monitor.before_update(params)
    params *= 0.75
    head, *lines = monitor.table(net, params, grads).splitlines()
    assert head.split() == ["layer", "mean", "deviation", "zeros", "gradient", "update/weight"]
    assert [line.split()[0] for line in lines] == [layer.name for layer in net.layers]
    table = {line.split()[0]: line.split()[1:] for line in lines}
    assert len(table["relu1"]) == 3
    assert len(table["conv1_1"]) == 5
    assert table["conv3_2"][-1] == "0.25"  # |update| / |weight|
    slot = next(s for s in net.slots if s.name == "fc7.weight")
    norm = np.linalg.norm(grads[slot.lo : slot.hi])
    assert float(table["fc7"][3]) == pytest.approx(norm, rel=1e-2)
    assert float(table["fc8"][0]) == pytest.approx(logits.mean(), rel=1e-2)
    assert 20 < float(table["drop6"][2].rstrip("%")) <= 100
