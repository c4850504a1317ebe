"""The bfloat16 kernels against the direct convolution in float64, of the same rounded operands."""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba", reason="Numba is not installed")

from dist_vgg.kernels import bfloat16, reference
from dist_vgg.kernels.bfloat16_format import narrowed, widened

ROOT = Path(__file__).parents[2]
TOLERANCE = 4e-6  # of the largest number: what float32 sums lose
# (N,H,W,C,F): whole tiles and parts of them, one group of images and several, few channels, many.
SHAPES = [
    (2, 8, 8, 64, 64), (3, 8, 8, 16, 32), (2, 6, 10, 33, 70), (3, 2, 2, 128, 130),
    (1, 5, 3, 130, 260), (3, 64, 64, 16, 200), (2, 8, 8, 1, 64), (2, 16, 16, 3, 8),
    (2, 4, 6, 13, 26), (3, 6, 6, 20, 5),
]  # fmt: skip


def draw(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.Generator(np.random.Philox(len(shapes)))
    return [rng.standard_normal(shape, np.float32) for shape in shapes]


def exact(*arrays: np.ndarray) -> list[np.ndarray]:
    """The numbers that the kernels multiply, in float64."""
    return [widened(narrowed(a) if a.dtype == np.float32 else a).astype(float) for a in arrays]


def layer(n: int, height: int, width: int, channels: int, filters: int) -> list[np.ndarray]:
    """x, w, b and dy of a convolution, with He's weights; x and dy are bfloat16."""
    x, w, b, dy = draw(
        (n, height, width, channels),
        (3, 3, channels, filters),
        (filters,),
        (n, height, width, filters),
    )
    return [narrowed(x), w * np.float32((2 / (9 * channels)) ** 0.5), b, narrowed(dy)]


def close(found: np.ndarray, right: np.ndarray) -> None:
    """The sums are right in float32, and rounded to the nearest where the result is bfloat16."""
    half = found.dtype == np.uint16
    error = abs(widened(found).astype(float) - right)
    allowed = TOLERANCE * abs(right).max() + half * 2.0**-8 * abs(right)
    assert found.shape == right.shape and (error <= allowed).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_convolution_is_that_of_the_reference(shape: tuple[int, ...]) -> None:
    x, w, b, dy = layer(*shape)
    dw, db = np.full_like(w, np.nan), np.full_like(b, np.nan)
    y = bfloat16.conv2d_forward(x, w, b, True)
    dx = bfloat16.conv2d_backward(dy.copy(), x, w, dw, db, True, y)
    x_, w_, dy_ = exact(x, w, dy)
    right, of_w, of_b = reference.conv2d_forward(x_, w_, b.astype(float), True), 0 * w_, 0.0 * b
    close(y, right)
    dx_ = reference.conv2d_backward(dy_, x_, w_, of_w, of_b, True, widened(y).astype(float))
    assert dx is not None and dx_ is not None
    for found, expected in ((dx, dx_), (dw, of_w), (db, of_b)):
        close(found, expected)


@pytest.mark.parametrize(
    ("n", "inputs", "outputs"), [(1, 7, 3), (4, 100, 70), (20, 64, 130), (70, 33, 16), (3, 300, 40)]
)
def test_products_are_those_of_the_reference(n: int, inputs: int, outputs: int) -> None:
    x, w, b, dy = draw((n, inputs), (inputs, outputs), (outputs,), (n, outputs))
    dw, db = np.full_like(w, np.nan), np.full_like(b, np.nan)
    x_, w_, dy_ = exact(x, w, dy)
    close(bfloat16.linear_forward(narrowed(x), w, b), x_ @ w_ + b)
    close(bfloat16.linear_backward(dy, x, w, dw, db), dy_ @ w_.T)
    close(dw, x_.T @ dy_)
    close(db, dy_.sum(axis=0))


def test_pooling_is_that_of_the_reference() -> None:
    x, dy = (narrowed(a) for a in draw((2, 4, 6, 20), (2, 2, 3, 20)))
    x[0, 0, :4, 0] = narrowed(np.array([-np.inf, 2, np.nan, 3], np.float32))
    y, choice = bfloat16.maxpool_forward(x)
    right, _ = reference.maxpool_forward(widened(x))
    assert np.array_equal(widened(y), right, equal_nan=True)
    dx = widened(bfloat16.maxpool_backward(dy, choice))
    assert np.array_equal(dx.reshape(2, 2, 2, 3, 2, 20).sum(axis=(2, 4)), widened(dy))
    chosen = widened(x)[(dx != 0) & (widened(x) == widened(x))]
    assert np.isin(chosen, right).all()


def test_pooled_convolution_has_the_bits_of_its_parts() -> None:
    x, w, b, _ = layer(3, 64, 64, 16, 200)  # of which one image makes a group
    dy = narrowed(draw((3, 32, 32, 200))[0])
    y, choice = bfloat16.conv2d_pool_forward(x, w, b)
    apart, where = bfloat16.maxpool_forward(bfloat16.conv2d_forward(x, w, b))
    assert np.array_equal(y, bfloat16.relu_forward(apart)) and np.array_equal(choice, where)
    found, right = ([np.empty_like(w), np.empty_like(b)] for _ in range(2))
    dx = bfloat16.conv2d_pool_backward(dy, x, w, *found, y, choice)
    spread = bfloat16.maxpool_backward(bfloat16.relu_backward(dy.copy(), y), where)
    dx_ = bfloat16.conv2d_backward(spread, x, w, *right)
    assert np.array_equal(dx, dx_) and all(map(np.array_equal, found, right))


@pytest.mark.parametrize("shape", [(7, 8, 8, 13, 40), (7, 16, 16, 40, 13), (7, 4, 4, 3, 8)])
def test_a_sample_has_the_same_bits_in_any_company(shape: tuple[int, ...]) -> None:
    x, w, b, dy = layer(*shape)
    whole = bfloat16.conv2d_forward(x, w, b)
    dw, db = np.empty_like(w), np.empty_like(b)
    dx = bfloat16.conv2d_backward(dy, x, w, dw, db)
    assert dx is not None
    for part in (slice(0, 2), slice(2, 7)):
        assert np.array_equal(whole[part], bfloat16.conv2d_forward(x[part], w, b))
        apart = bfloat16.conv2d_backward(dy[part], x[part], w, dw, db)
        assert apart is not None and np.array_equal(dx[part], apart)


@pytest.mark.parametrize("counts", [(3, 3, 2, 0, 3), (11,), (0, 11)])
def test_gradients_of_parts_are_added_along_the_tree(counts: tuple[int, ...]) -> None:
    def of_parts(backward: Any, dy: np.ndarray, x: np.ndarray, w: np.ndarray) -> None:
        """Compare micro-batches that run together with those that run alone."""
        together, edges = (
            [np.empty_like(w), np.empty(w.shape[-1], np.float32)],
            np.cumsum((0, *counts)),
        )
        backward(dy, x, w, *together, counts=counts)
        alone = []
        for lo, hi in pairwise(edges):
            alone.append([np.zeros_like(a) for a in together])
            if lo < hi:
                backward(dy[lo:hi], x[lo:hi], w, *alone[-1])
        while len(alone) > 1:
            pairs = zip(alone[::2], [*alone[1::2], None], strict=False)
            alone = [
                [a + b for a, b in zip(*pair, strict=True)] if pair[1] else pair[0]
                for pair in pairs
            ]
        assert all(map(np.array_equal, together, alone[0]))

    x, w, _, dy = layer(11, 4, 4, 20, 40)
    of_parts(bfloat16.conv2d_backward, dy, x, w)
    of_parts(bfloat16.linear_backward, *(a.reshape(11, -1) for a in (dy, x)), *draw((320, 640)))


def test_rows_of_a_matrix_gradient_can_be_shared_out() -> None:
    x, dy = draw((9, 300), (9, 70))
    whole, db = np.empty((300, 70), np.float32), np.empty(70, np.float32)
    bfloat16.linear_backward_weights(dy, narrowed(x), whole, db, (4, 4, 1))
    for rows in (slice(0, 33), slice(33, 300)):
        part = np.empty((rows.stop - rows.start, 70), np.float32)
        bfloat16.linear_backward_weights(dy, x[:, rows], part, db, (4, 4, 1))
        assert np.array_equal(part, whole[rows])


def test_a_rectifier_leaves_nan_to_be_found() -> None:
    x = np.array([-1, 0, 2, np.nan, -np.nan, -np.inf], np.float32)
    right = np.array([0, 0, 2, np.nan, np.nan, 0], np.float32)
    for given in (x, narrowed(x)):
        assert np.array_equal(widened(bfloat16.relu_forward(given)), right, equal_nan=True)


def test_the_compiled_rounding_is_the_stated_one() -> None:
    bits = np.random.Generator(np.random.Philox(1)).integers(0, 2**32, 10**5, np.uint32)
    numbers = bits.view(np.float32)
    edges = (narrowed(numbers).astype(np.uint32) << 16) + np.uint32(0x8000)  # ties
    for given in (numbers, edges.view(np.float32)):
        found = np.empty(given.shape, np.uint16)
        bfloat16.narrow(given, found)
        assert np.array_equal(found, narrowed(given))


# Whoever changes an order of additions raises bfloat16.VERSION and stores the new hash. These are
# emulated; on a processor with AMX "this" is a test of its tiles.
BITS = {1: "5a77412be7181c1e"}


@pytest.mark.parametrize(
    "processor",
    [{}, {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+sse4.2,+avx,+avx2,+fma"}],
    ids=["this", "avx2"],
)
def test_version_names_the_bits_on_every_processor(processor: dict[str, str]) -> None:
    shown = subprocess.run(
        [sys.executable, "tests/compiled_bits.py", bfloat16.NAME], cwd=ROOT,
        env=os.environ | processor, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown.stdout.strip() == BITS[bfloat16.VERSION]
