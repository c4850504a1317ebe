"""What the benchmark times as the products of a step are whole products, and as many as it says."""

import numpy as np
import pytest

pytest.importorskip("numba", reason="Numba is not installed")

from dist_vgg.bench import product_share
from dist_vgg.bench.product_share import ProductShare
from dist_vgg.kernels import scratch


def matrix(panels: np.ndarray, rows: int, columns: int, width: int) -> np.ndarray:
    """The matrix that lies in panels of so many columns."""
    count = -(-columns // width)
    found = panels[: count * rows * width].reshape(count, rows, width)
    return found.transpose(1, 0, 2).reshape(rows, -1)[:, :columns].copy()


def close(found: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)


SIZES = [(20, 100), (70, 24), (260, 270)]  # channels and filters
TILES = 3 * 2 * 2


def convolution(channels: int, filters: int) -> product_share._Conv:
    layer = product_share._Conv(3, (8, 8, channels), (3, 3, channels, filters))
    assert layer.flops == 3 * 2 * 36 * TILES * channels * filters
    return layer


@pytest.mark.parametrize(("channels", "filters"), SIZES)
def test_products_of_a_convolution(channels: int, filters: int) -> None:
    layer = convolution(channels, filters)
    s, depth = layer.forward, product_share.DEPTH
    layer()
    v, m = matrix(s.v[5], TILES, channels, s.wc), matrix(s.m[5], TILES, filters, s.wf)
    # All parts of the filters' transform are in the same memory.
    u = s.u[5, : depth * s.wf].reshape(depth, s.wf)
    parts = [v[:, c : c + depth] for c in range(0, channels, depth)]
    panel = sum(part @ u[: part.shape[1]] for part in parts)
    close(m, np.tile(panel, -(-filters // s.wf))[:, :filters])


@pytest.mark.parametrize(("channels", "filters"), SIZES[:2])
def test_products_with_whole_transforms(
    channels: int, filters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "MOST_TILES", 1)  # as if there were several blocks
    layer = convolution(channels, filters)
    s, t = layer.forward, layer.backward
    assert s.whole and t.whole
    before = matrix(t.v[5], TILES, channels, t.wc)
    layer()
    v, m = matrix(s.v[5], TILES, channels, s.wc), matrix(s.m[5], TILES, filters, s.wf)
    close(m, v @ matrix(s.u[5], channels, filters, s.wf))
    m = matrix(t.m[5], TILES, filters, t.wf)
    close(matrix(t.du[5], channels, filters, t.wf), before.T @ m)
    close(matrix(t.v[5], TILES, channels, t.wc), m @ matrix(t.u[5], filters, channels, t.wc))


def test_products_of_a_fully_connected_layer() -> None:
    images, inputs, outputs = 3, 600, 100
    layer = product_share._Linear(images, (inputs,), (inputs, outputs))
    sizes = images, inputs, outputs
    at = product_share.product.address(product_share.FLOAT32)
    x = layer.x.reshape(images, inputs)
    w = layer.w[: inputs * outputs].reshape(inputs, outputs)
    product_share.matrix(at, layer.x, layer.w, layer.sums, *sizes, layer.width)
    whole = outputs // layer.width * layer.width  # beyond lies what follows a row
    y = matrix(layer.sums, images, whole, layer.width)
    close(y, (x @ w)[:, :whole])
    layer()
    assert layer.flops == 3 * 2 * images * inputs * outputs


def test_the_large_product() -> None:
    side = 150  # neither whole panels nor a whole part of k
    large = product_share._Square(side)
    large()
    depth, width = product_share.DEPTH, large.width
    a, b, c = large.matrices
    wanted = matrix(a, side, side, depth) @ matrix(b, side, side, width)
    close(matrix(c, side, side, width), wanted)
    assert large.flops == 2 * side**3


def test_each_layer_counts_as_often_as_a_step_has_it() -> None:
    share = ProductShare(2, 0.25, 64)
    counts = [count for _, count in share._layers]
    assert sum(counts) == 12 + 3  # conv1_1 is no product
    assert all(rate > 0 for rate in share.measure())
