"""The compiled kernels against the direct convolution in float64, and what their bits promise."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba", reason="Numba is not installed")

from dist_vgg.kernels import compiled, ordered, reference, rules, scratch

ROOT = Path(__file__).parents[2]
TOLERANCE = 4e-6  # of the largest number
# (N,H,W,C,F): whole tiles and parts of tiles, one panel and several, few channels and many.
SHAPES = [
    (2, 8, 8, 64, 64), (3, 8, 8, 16, 32), (2, 6, 10, 33, 70), (3, 2, 2, 128, 130),
    (1, 5, 3, 130, 260), (5, 4, 4, 64, 16), (1, 64, 64, 16, 16), (2, 8, 8, 1, 64),
    (2, 4, 6, 13, 26), (3, 6, 6, 20, 5),
]  # fmt: skip


def draw(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.Generator(np.random.Philox(len(shapes)))
    return [rng.standard_normal(shape, np.float32) for shape in shapes]


def layer(n: int, height: int, width: int, channels: int, filters: int) -> list[np.ndarray]:
    """x, w, b and dy of a convolution, with He's weights."""
    x, w, b, dy = draw(
        (n, height, width, channels),
        (3, 3, channels, filters),
        (filters,),
        (n, height, width, filters),
    )
    return [x, w * np.float32((2 / (9 * channels)) ** 0.5), b, dy]


def both_ways(
    kernels: Any, x: np.ndarray, w: np.ndarray, b: np.ndarray, dy: np.ndarray, y: Any = None
) -> dict[str, np.ndarray]:
    """A convolution's output and gradients; its rectifier is that of y, where it is given."""
    out = kernels.conv2d_forward(x, w, b, True)
    dw, db = np.full_like(w, np.nan), np.full_like(b, np.nan)
    dx = kernels.conv2d_backward(dy.copy(), x, w, dw, db, True, out if y is None else y)
    return dict(y=out, dx=dx, dw=dw, db=db)


def close(found: np.ndarray, right: np.ndarray) -> None:
    assert found.dtype == np.float32 or found.dtype == right.dtype
    assert abs(found - right).max() <= TOLERANCE * abs(right).max()


@pytest.mark.parametrize("shape", SHAPES)
def test_convolution_is_that_of_the_reference(shape: tuple[int, ...]) -> None:
    given = layer(*shape)
    found = both_ways(compiled, *given)
    right = both_ways(
        reference, *(a.astype(np.float64) for a in given), found["y"].astype(np.float64)
    )
    for name in right:
        close(found[name], right[name])


@pytest.mark.parametrize(
    ("n", "inputs", "outputs"), [(1, 7, 3), (4, 100, 70), (20, 64, 130), (70, 33, 16)]
)
def test_products_are_those_of_the_reference(n: int, inputs: int, outputs: int) -> None:
    x, w, b, dy = draw((n, inputs), (inputs, outputs), (outputs,), (n, outputs))
    dw, db = np.full_like(w, np.nan), np.full_like(b, np.nan)
    close(compiled.linear_forward(x, w, b), x.astype(float) @ w + b)
    close(compiled.linear_backward(dy, x, w, dw, db), dy.astype(float) @ w.T)
    close(dw, x.astype(float).T @ dy)
    close(db, dy.astype(float).sum(axis=0))


def test_pooling_is_that_of_the_reference() -> None:
    (x,) = draw((3, 6, 4, 19))
    x[0, :2, :2] = 1
    for found, right in zip(compiled.maxpool_forward(x), reference.maxpool_forward(x), strict=True):
        np.testing.assert_array_equal(found, right)
    dy, choice = compiled.maxpool_forward(x)
    found, right = (k.maxpool_backward(dy, choice) for k in (compiled, reference))
    np.testing.assert_array_equal(found, right)


def pooled(
    kernels: Any, x: np.ndarray, w: np.ndarray, b: np.ndarray, dy: np.ndarray
) -> dict[str, np.ndarray]:
    """Convolution, pooling and rectifier as one, with their gradients."""
    y, choice = kernels.conv2d_pool_forward(x, w, b)
    dw, db = np.full_like(w, np.nan), np.full_like(b, np.nan)
    dx = kernels.conv2d_pool_backward(dy.copy(), x, w, dw, db, y, choice)
    return dict(y=y, choice=choice, dx=dx, dw=dw, db=db)


def one_by_one(
    kernels: Any, x: np.ndarray, w: np.ndarray, b: np.ndarray, dy: np.ndarray
) -> dict[str, np.ndarray]:
    y, choice = kernels.maxpool_forward(kernels.conv2d_forward(x, w, b))
    y, dw, db = kernels.relu_forward(y), np.empty_like(w), np.empty_like(b)
    dy = kernels.maxpool_backward(kernels.relu_backward(dy.copy(), y), choice)
    return dict(y=y, choice=choice, dx=kernels.conv2d_backward(dy, x, w, dw, db), dw=dw, db=db)


@pytest.mark.parametrize("shape", [*[s for s in SHAPES if s[1] % 2 == 0], (2, 8, 8, 300, 280)])
def test_pooling_within_a_convolution_changes_no_bit(shape: tuple[int, ...]) -> None:
    n, height, width, _, filters = shape
    x, w, b, _ = layer(*shape)
    x[0] = x[0, 0, 0]  # windows of equal numbers, within the image
    dy = draw((n, height // 2, width // 2, filters))[0]
    found, right = pooled(compiled, x, w, b, dy), one_by_one(compiled, x, w, b, dy)
    for name in right:
        np.testing.assert_array_equal(found[name], right[name], name)


@pytest.mark.parametrize("place", range(4))
def test_what_is_not_finite_stays(place: int) -> None:
    x, w, b, _ = layer(2, 4, 4, 16, 16)
    x[1, place // 2, place % 2, 3] = np.nan
    y = compiled.conv2d_forward(x, w, b, True)
    assert np.isnan(y[1]).any()
    assert np.isfinite(y[0]).all()
    assert np.isnan(compiled.maxpool_forward(x)[0][1, 0, 0, 3])
    assert np.isnan(compiled.conv2d_pool_forward(x, w, b)[0][1]).any()


@pytest.mark.parametrize("shape", SHAPES)
def test_bits_of_an_image_do_not_depend_on_the_others(shape: tuple[int, ...]) -> None:
    x, w, b, dy = layer(7, *shape[1:])
    whole = both_ways(compiled, x, w, b, dy)
    for part in (slice(0, 1), slice(2, 5), slice(6, 7)):
        alone = both_ways(compiled, x[part], w, b, dy[part])
        np.testing.assert_array_equal(alone["y"], whole["y"][part])
        np.testing.assert_array_equal(alone["dx"], whole["dx"][part])


@pytest.mark.parametrize("n", [1, 3, 8, 33])
def test_bits_of_a_row_do_not_depend_on_the_others(n: int) -> None:
    x, w, b, dy = draw((40, 65), (65, 90), (90,), (40, 90))
    dw, db = np.empty_like(w), np.empty_like(b)
    for part in (slice(0, n), slice(40 - n, 40)):
        y, alone = (compiled.linear_forward(rows, w, b) for rows in (x, x[part]))
        np.testing.assert_array_equal(alone, y[part])
        dx, alone = (
            compiled.linear_backward(rows, x[: len(rows)], w, dw, db) for rows in (dy, dy[part])
        )
        np.testing.assert_array_equal(alone, dx[part])


@pytest.mark.parametrize("counts", [(5,), (3, 0, 4, 2, 1), (0, 0)])
def test_rows_of_a_gradient_do_not_depend_on_the_others(counts: tuple[int, ...]) -> None:
    """What `BY_ROWS` says: ranks share out the rows of a matrix's gradient."""
    assert compiled.BY_ROWS
    x, dy = draw((sum(counts), 103), (sum(counts), 90))
    dw, db = np.full((103, 90), np.nan, np.float32), np.full(90, np.nan, np.float32)
    compiled.linear_backward_weights(dy, x, dw, db, counts)
    for lo, hi in ((0, 1), (5, 6), (3, 71), (102, 103), (7, 7)):
        rows, sums = np.full((hi - lo, 90), np.nan, np.float32), np.full_like(db, np.nan)
        compiled.linear_backward_weights(dy, x[:, lo:hi], rows, sums, counts)
        np.testing.assert_array_equal(rows, dw[lo:hi])
        np.testing.assert_array_equal(sums, db)


@pytest.mark.parametrize("shape", SHAPES)
def test_bits_do_not_depend_on_the_blocks(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = layer(*shape)
    usual = both_ways(compiled, *given)
    for name, value in (
        ("MOST_TILES", 1),
        ("FEWEST_TILES", 1000),
        ("FEW", 0),
        ("FEW", 1 << 30),
    ):
        with monkeypatch.context() as changed:
            changed.setattr(scratch, name, value)
            for key, array in both_ways(compiled, *given).items():
                np.testing.assert_array_equal(array, usual[key], f"{key} with {name} = {value}")


def test_only_several_blocks_keep_whole_transforms() -> None:
    def whole(images: int, channels: int) -> bool:
        x = np.empty((images, 16, 16, channels), np.float32)
        return scratch.Scratch(x, channels).whole

    assert [whole(8, 256), whole(9, 256), whole(9, 272)] == [False, True, False]


COUNTS = [(2, 1), (2, 2, 1), (1, 2, 0, 2, 1, 1, 1), (4,) * 8]


def along_the_tree(arrays: list[np.ndarray]) -> np.ndarray:
    while len(arrays) > 1:
        pairs = [arrays[i : i + 2] for i in range(0, len(arrays), 2)]
        arrays = [pair[0] + pair[1] if len(pair) == 2 else pair[0] for pair in pairs]
    return arrays[0]


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("shape", [*SHAPES, (1, 4, 4, 300, 280)])
def test_gradients_of_micro_batches_are_those_of_each_alone_along_the_tree(
    shape: tuple[int, ...], counts: tuple[int, ...]
) -> None:
    n = sum(counts)
    x, w, b, dy = layer(n, *shape[1:])
    y, dw, db = compiled.conv2d_forward(x, w, b, True), np.empty_like(w), np.empty_like(b)
    compiled.conv2d_backward(dy, x, w, dw, db, True, y, counts)
    rows, matrix, dy_rows = draw((n, 35), (35, 70), (n, 70))
    dm, dv = np.empty_like(matrix), np.empty(70, np.float32)
    compiled.linear_backward(dy_rows, rows, matrix, dm, dv, counts)
    alone = [[np.zeros_like(array) for array in (dw, db, dm, dv)] for _ in counts]
    for end, count, found in zip(np.cumsum(counts), counts, alone, strict=True):
        part = slice(end - count, end)
        if count:
            compiled.conv2d_backward(dy[part], x[part], w, *found[:2], False, y[part])
            compiled.linear_backward(dy_rows[part], rows[part], matrix, *found[2:])
    for array, parts in zip((dw, db, dm, dv), zip(*alone, strict=True), strict=True):
        np.testing.assert_array_equal(array, along_the_tree(list(parts)))


@pytest.mark.parametrize("count", [7, 256, 1000, 2049])
def test_squares_are_added_as_numpy_adds_them(count: int) -> None:
    (x,) = draw((count,))
    found = compiled.ARITHMETIC.squares(x, 512)
    np.testing.assert_array_equal(found, ordered.squares(x, 512))
    np.testing.assert_allclose(found.sum(), (x.astype(float) ** 2).sum(), rtol=1e-12)


@pytest.mark.parametrize("decay", [0.0, 1e-3])
@pytest.mark.parametrize(
    ("rule", "vectors", "numbers"),
    [
        ("sgd", 3, (0.1, 0.9, "decay", False)),
        ("sgd", 3, (0.1, 0.9, "decay", True)),
        ("adam", 4, (0.1, 0.9, 0.999, 1.5, 1e-8, "decay")),
        ("adagrad", 3, (0.1, 1e-10, "decay")),
        ("move_average", 2, (0.3,)),
    ],
)
def test_updates_have_numpys_bits(
    rule: str, vectors: int, numbers: tuple[Any, ...], decay: float
) -> None:
    found = draw(*[(1003,)] * vectors)
    found[-1][:] = abs(found[-1])  # of which a root is taken
    expected = [array.copy() for array in found]
    numbers = tuple(decay if number == "decay" else number for number in numbers)
    getattr(compiled.ARITHMETIC, rule)(*found, *numbers)
    getattr(rules, rule)(*expected, *numbers)
    np.testing.assert_array_equal(found, expected)


def test_a_sum_is_a_chain_of_fused_multiply_adds() -> None:
    x, w, b = draw((5, 70), (70, 20), (20,))
    # The 64 bits of a long double hold each product exactly, and round a sum of two so late that
    # rounding it again to 24 bits gives what a fused multiply-add does.
    total = np.zeros((5, 20), np.float32)
    for first in range(0, 70, 32):
        chain = np.zeros((5, 20), np.float32)
        for k in range(first, min(first + 32, 70)):
            product = x[:, k, None].astype(np.longdouble) * w[k].astype(np.longdouble)
            chain = (product + chain).astype(np.float32)
        total += chain
    np.testing.assert_array_equal(compiled.linear_forward(x, w, b), total + b)


def test_arrays_may_lie_anywhere_and_be_read_only() -> None:
    x, w, b, dy = layer(2, 6, 6, 20, 24)
    usual = both_ways(compiled, x, w, b, dy)
    turned = np.ascontiguousarray(x.transpose(3, 2, 1, 0)).transpose(3, 2, 1, 0)
    turned.flags.writeable = False
    for key, array in both_ways(compiled, turned, w, b, dy).items():
        np.testing.assert_array_equal(array, usual[key])


def test_float64_is_computed_in_float64() -> None:
    """For the check of gradients in debug mode."""
    given = [array.astype(np.float64) for array in layer(2, 4, 4, 16, 20)]
    found, right = both_ways(compiled, *given), both_ways(reference, *given)
    for name in right:
        np.testing.assert_allclose(found[name], right[name], rtol=1e-9, atol=1e-11)


# Whoever changes an order of additions raises compiled.VERSION and stores the new hash.
BITS = {1: "393c3a836df4a0f1"}


@pytest.mark.parametrize(
    "processor",
    [{}, {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+sse4.2,+avx,+avx2,+fma"}],
    ids=["this", "avx2"],
)
def test_version_names_the_bits_on_every_processor(processor: dict[str, str]) -> None:
    shown = subprocess.run(
        [sys.executable, "tests/compiled_bits.py", compiled.NAME], cwd=ROOT,
        env=os.environ | processor, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown.stdout.strip() == BITS[compiled.VERSION]
