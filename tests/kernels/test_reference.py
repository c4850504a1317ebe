"""Operations: each backward against finite differences of its forward, in float64."""

from collections.abc import Callable

import numpy as np
import pytest

from dist_vgg.kernels import reference as F

Operation = Callable[..., np.ndarray]
Adjoint = Callable[..., tuple[np.ndarray | None, ...]]


def check_grads(operation: Operation, adjoint: Adjoint, *inputs: np.ndarray) -> None:
    """Compare adjoint(dy, *inputs) with central differences by every element of every input."""
    dy = np.random.default_rng(99).standard_normal(operation(*inputs).shape)
    for number, found in enumerate(adjoint(dy.copy(), *inputs)):
        assert found is not None
        expected = np.empty_like(inputs[number])
        for place in np.ndindex(expected.shape):
            ahead, behind = (
                (operation(*moved(inputs, number, place, side)) * dy).sum() for side in (1, -1)
            )
            expected[place] = (ahead - behind) / (2 * STEP)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


STEP = 1e-5


def moved(
    inputs: tuple[np.ndarray, ...], number: int, place: tuple[int, ...], side: int
) -> list[np.ndarray]:
    """The inputs with one element a step away."""
    copies = [x.copy() for x in inputs]
    copies[number][place] += side * STEP
    return copies


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def off_kink(*shape: int) -> np.ndarray:
    """Numbers further from zero than a step of the finite differences."""
    x = normal(*shape)
    return x + 0.1 * np.sign(x)


def conv(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    return F.conv2d_forward(x, w, b)


def conv_adjoint(
    dy: np.ndarray, x: np.ndarray, w: np.ndarray, b: np.ndarray, y: np.ndarray | None = None
) -> tuple[np.ndarray | None, ...]:
    # Gradients are written over whatever was there, so start with what can't be overlooked.
    dw, db = np.full_like(w, np.nan), np.full_like(b, np.nan)
    dx = F.conv2d_backward(dy, x, w, dw, db, y=y)
    return dx, dw, db


def rectified_conv(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    return F.conv2d_forward(x, w, b, relu=True)


def rectified_conv_adjoint(
    dy: np.ndarray, x: np.ndarray, w: np.ndarray, b: np.ndarray
) -> tuple[np.ndarray | None, ...]:
    return conv_adjoint(dy, x, w, b, rectified_conv(x, w, b))


def linear_adjoint(
    dy: np.ndarray, x: np.ndarray, w: np.ndarray, b: np.ndarray
) -> tuple[np.ndarray, ...]:
    dw, db = np.full_like(w, np.nan), np.full_like(b, np.nan)
    return F.linear_backward(dy, x, w, dw, db), dw, db


X = normal(5, 4, 6, 3)
W, B = normal(3, 3, 3, 2, seed=1), normal(2, seed=2)
ROW = 6 * 9 * 3 * 8  # bytes of the patches of one row of X's images; an image has four rows
# PATCH_BYTES -> number of blocks. Many images in a block, or rows of one image.
BLOCKS = {
    1: 20,
    2 * ROW: 10,
    3 * ROW: 10,  # three rows and a last one of one
    4 * ROW: 5,
    7 * ROW: 5,
    8 * ROW: 3,  # two images and a last one of one
    1 << 22: 1,
}


@pytest.fixture(params=BLOCKS)
def patch_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(F, "PATCH_BYTES", request.param)
    return request.param


def test_patch_bytes_sets_the_number_of_blocks(patch_bytes: int) -> None:
    assert len(list(F._patches(X, 3, 3, 2))) == BLOCKS[patch_bytes]


@pytest.mark.parametrize(("filters", "blocks"), [(27, 10), (28, 20), (54, 20)])
def test_many_filters_make_smaller_blocks(
    filters: int, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A patch has 27 numbers; where a pixel of the output has more, that counts.
    monkeypatch.setattr(F, "PATCH_BYTES", 2 * ROW)
    assert len(list(F._patches(X, 3, 3, filters))) == blocks


@pytest.mark.usefixtures("patch_bytes")
def test_conv_gradients_in_blocks() -> None:
    check_grads(conv, conv_adjoint, X, W, B)
    check_grads(rectified_conv, rectified_conv_adjoint, X, W, B)


@pytest.mark.usefixtures("patch_bytes")
def test_rectified_conv_is_the_two_operations() -> None:
    dy = normal(5, 4, 6, 2)
    y = F.relu_forward(conv(X, W, B))
    assert 0.2 < (y == 0).mean() < 0.8
    np.testing.assert_array_equal(rectified_conv(X, W, B), y)
    expected = conv_adjoint(F.relu_backward(dy.copy(), y), X, W, B)
    found, kept = conv_adjoint(dy, X, W, B, y), y.copy()
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(dy == 0, y == 0)  # in place, and nothing else
    np.testing.assert_array_equal(y, kept)


KEEP = np.random.default_rng(7).random((4, 6)) < 0.5
LABELS = np.array([2, 0, 4, 4])


def cross_entropy(total: int, smoothing: float = 0) -> tuple[Operation, Adjoint]:
    """The loss as an operation with one number as output."""
    return (
        lambda logits: F.cross_entropy(logits, LABELS, total, smoothing)[0].sum() / total,
        lambda dy, logits: (dy * F.cross_entropy(logits, LABELS, total, smoothing)[1],),
    )


@pytest.mark.parametrize(
    ("operation", "adjoint", "inputs"),
    [
        pytest.param(conv, conv_adjoint, (normal(1, 1, 1, 1), normal(3, 3, 1, 1), B[:1]), id="1x1"),
        pytest.param(
            conv, conv_adjoint, (X[:2], normal(1, 1, 3, 2, seed=3), B), id="conv of 1x1 filters"
        ),
        pytest.param(
            conv, conv_adjoint, (X[:2], normal(5, 3, 3, 2, seed=3), B), id="conv of 5x3 filters"
        ),
        pytest.param(
            lambda x: F.maxpool_forward(x)[0],
            lambda dy, x: (F.maxpool_backward(dy, F.maxpool_forward(x)[1]),),
            (normal(2, 4, 6, 3),),
            id="maxpool",
        ),
        pytest.param(
            lambda x: F.relu_forward(x.copy()),
            lambda dy, x: (F.relu_backward(dy, F.relu_forward(x.copy())),),
            (off_kink(3, 2, 2, 5),),
            id="relu",
        ),
        pytest.param(
            F.linear_forward,
            linear_adjoint,
            (normal(4, 6), normal(6, 3, seed=1), normal(3, seed=2)),
            id="linear",
        ),
        pytest.param(
            lambda x: F.dropout_forward(x, KEEP, 0.3),
            lambda dy, x: (F.dropout_forward(dy, KEEP, 0.3),),
            (normal(4, 6),),
            id="dropout",
        ),
        pytest.param(*cross_entropy(4), (normal(4, 5),), id="cross_entropy"),
        pytest.param(*cross_entropy(11), (normal(4, 5),), id="cross_entropy of a part"),
        pytest.param(*cross_entropy(4, 0.3), (normal(4, 5),), id="cross_entropy, smooth labels"),
        pytest.param(
            lambda x: np.log(np.exp(x).sum(axis=1)),
            lambda dy, x: (dy[:, None] * F.softmax(x),),
            (normal(4, 5),),
            id="softmax, the gradient of log sum exp",
        ),
    ],
)
def test_gradients(operation: Operation, adjoint: Adjoint, inputs: tuple[np.ndarray, ...]) -> None:
    check_grads(operation, adjoint, *inputs)


def test_check_grads_can_fail() -> None:
    with pytest.raises(AssertionError):
        check_grads(np.sin, lambda dy, x: (dy * np.cos(x) * 1.00001,), normal(3))


@pytest.mark.usefixtures("patch_bytes")
@pytest.mark.parametrize("shape", [(3, 3), (1, 1), (5, 3)])
def test_conv_is_the_naive_loop(shape: tuple[int, int]) -> None:
    w = normal(*shape, 3, 2, seed=1)
    n, height, width, _ = X.shape
    expected = np.tile(B, (n, height, width, 1))
    for row, column, i, j in np.ndindex(height, width, *shape):
        r, c = row + i - shape[0] // 2, column + j - shape[1] // 2
        if 0 <= r < height and 0 <= c < width:
            expected[:, row, column] += X[:, r, c] @ w[i, j]
    np.testing.assert_allclose(conv(X, w, B), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(F.conv2d_forward(X, w, None), expected - B, rtol=1e-12, atol=1e-12)


def test_blocks_change_nothing_but_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w, b = (a.astype(np.float32) for a in (X, W, B))
    dy = normal(5, 4, 6, 2).astype(np.float32)
    results = []
    for size in BLOCKS:
        monkeypatch.setattr(F, "PATCH_BYTES", size)
        results.append((conv(x, w, b), *conv_adjoint(dy, x, w, b)))
    for result in results[1:]:
        for found, expected in zip(result, results[0], strict=True):
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_conv_without_dx_has_the_same_other_gradients() -> None:
    dy = normal(5, 4, 6, 2)
    _, *expected = conv_adjoint(dy, X, W, B)
    dw, db = np.empty_like(W), np.empty_like(B)
    assert F.conv2d_backward(dy, X, W, dw, db, need_dx=False) is None
    np.testing.assert_array_equal(dw, expected[0])
    np.testing.assert_array_equal(db, expected[1])


@pytest.mark.parametrize(
    ("window", "first"),
    [
        ((5, 5, 5, 5), 0),
        ((1, 5, 5, 5), 1),
        ((1, 2, 5, 5), 2),
        ((1, 2, 3, 5), 3),
        ((1, 5, 5, 2), 1),
        ((5, 1, 1, 5), 0),
        ((0, -0.0, 0, 0), 0),
    ],
)
def test_of_equal_pixels_maxpool_takes_the_first(window: tuple[float, ...], first: int) -> None:
    x = np.array(window, np.float32).reshape(1, 2, 2, 1)
    y, choice = F.maxpool_forward(x)
    assert (y.item(), choice.item()) == (max(window), first)
    dx = F.maxpool_backward(np.full_like(y, 7), choice)
    assert dx.ravel().tolist() == [7 * (k == first) for k in range(4)]


def test_rectifier_may_come_after_the_pooling() -> None:
    x = np.random.default_rng(0).integers(-2, 2, (5, 8, 8, 3)).astype(np.float32)  # many ties
    dy = normal(5, 4, 4, 3).astype(np.float32)
    before, choice = F.maxpool_forward(F.relu_forward(x.copy()))
    after, choice_after = F.maxpool_forward(x)
    F.relu_forward(after)
    np.testing.assert_array_equal(after, before)
    dx_before = F.relu_backward(F.maxpool_backward(dy, choice), F.relu_forward(x.copy()))
    dx_after = F.maxpool_backward(F.relu_backward(dy, after), choice_after)
    np.testing.assert_array_equal(dx_after, dx_before)


def test_softmax_and_cross_entropy_of_huge_logits() -> None:
    logits = np.array([[1e4, 0, -1e4], [1e4, 1e4, 0]], np.float32)
    np.testing.assert_array_equal(F.softmax(logits), np.float32([[1, 0, 0], [0.5, 0.5, 0]]))
    losses, dlogits = F.cross_entropy(logits, np.array([2, 0]), 2)
    np.testing.assert_allclose(losses, [2e4, np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(dlogits, [[0.5, 0, -0.5], [-0.25, 0.25, 0]])


def test_smooth_labels_are_least_surprised_by_their_own_shares() -> None:
    shares = np.full((4, 5), 0.1 / 5)
    shares[np.arange(4), LABELS] += 0.9
    losses, dlogits = F.cross_entropy(np.log(shares), LABELS, 4, 0.1)
    np.testing.assert_allclose(losses, -(shares * np.log(shares)).sum(axis=1))
    np.testing.assert_allclose(dlogits, 0, atol=1e-15)


def test_gradients_of_parts_add_up_to_that_of_the_whole_batch() -> None:
    logits = normal(4, 5)
    whole = F.cross_entropy(logits, LABELS, 4)[1]
    parts = [F.cross_entropy(logits[part], LABELS[part], 4)[1] for part in np.split(range(4), [3])]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-14)


def test_everything_stays_float32() -> None:
    x, w, b = (a.astype(np.float32) for a in (normal(4, 6), normal(6, 5), normal(5)))
    y = F.dropout_forward(F.relu_forward(F.linear_forward(x, w, b)), KEEP[:, :5], 0.3)
    losses, dlogits = F.cross_entropy(y, LABELS, 7)
    for array in (y, losses, dlogits, F.softmax(y), linear_adjoint(dlogits, x, w, b)[0]):
        assert array.dtype == np.float32


@pytest.mark.parametrize("samples", [1, 2, 5, F.FEW_SAMPLES, F.FEW_SAMPLES + 1])
@pytest.mark.parametrize("sides", [(256, 384), (128, 128), (256, 100), (100, 256)])
def test_linear_in_pieces_and_as_a_whole(samples: int, sides: tuple[int, int]) -> None:
    x, w, b = normal(samples, sides[0]), normal(*sides, seed=1), normal(sides[1], seed=2)
    dy = normal(samples, sides[1], seed=3)
    pieces = sides in ((256, 384), (128, 128)) and 1 < samples <= F.FEW_SAMPLES
    assert F._in_pieces(samples, w) == pieces
    np.testing.assert_allclose(F.linear_forward(x, w, b), x @ w + b, rtol=0, atol=1e-12)
    dx, dw, db = linear_adjoint(dy, x, w, b)
    for found, expected in ((dx, dy @ w.T), (dw, x.T @ dy), (db, dy.sum(axis=0))):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
        assert found.flags.c_contiguous
