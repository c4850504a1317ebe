"""The kernel set of --precision bfloat16: products of bfloat16 on tiles, summed in float32.

Weights come in float32 and are rounded where they are multiplied. Activations and their gradients
are rounded too, and are arrays of uint16 (bfloat16_format.py) that count as such everywhere in this
set; images, the outputs of fully connected layers and the loss are float32, and so are gradients
of parameters. Functions take either kind, and round what is not rounded.

The tiles are AMX's, or emulated (amx.py); no bit tells which. Micikevicius et al., "Mixed precision
training", ICLR 2018.
"""

from collections.abc import Sequence

import numpy as np

from dist_vgg.kernels import amx, compiled_vectors, exact_loss
from dist_vgg.kernels.bfloat16_format import narrowed, widened
from dist_vgg.kernels.machine_code import Function
from dist_vgg.kernels.parts import bounds, tree_sum
from dist_vgg.kernels.passes.sizes import AT_ONCE, BLOCK, GROUP, LANES
from dist_vgg.kernels.scratch import aligned, padded_to, tree_levels

NAME, VERSION, TOGETHER, BY_ROWS = "bfloat16", 1, 64, True
ARITHMETIC = compiled_vectors.ARITHMETIC

softmax, cross_entropy = exact_loss.softmax, exact_loss.cross_entropy
HALF, NUMBER = np.dtype(np.uint16), np.dtype(np.float32)


def _pass(name: str) -> Function:
    return Function(f"dist_vgg.kernels.passes.{name}")


product = _pass("emulated_tiles.product" if amx.why_not() else "amx_tiles.product")
filter_panels, convolve = _pass("bfloat16_conv.filter_panels"), _pass("bfloat16_conv.convolve")
gradient, keep_positive = _pass("bfloat16_conv.gradient"), _pass("bfloat16_conv.keep_positive")
narrow = _pass("bfloat16_conv.narrow")
pool_forward, pool_backward = _pass("bfloat16_pool.forward"), _pass("bfloat16_pool.backward")
matrix_forward = _pass("bfloat16_linear.forward")
matrix_backward_input = _pass("bfloat16_linear.backward_input")
matrix_backward_weights = _pass("bfloat16_linear.backward_weights")


def conv2d_forward(x: np.ndarray, w: np.ndarray, b: np.ndarray, relu: bool = False) -> np.ndarray:
    """Convolve with 3x3 filters, stride 1 and zero padding that keeps the size."""
    # x is (N,H,W,C), w is (3,3,C,F), b is (F,), y is (N,H,W,F)
    return _convolution(_halves(x), _panels(w), _plain(b), relu)


def conv2d_pool_forward(
    x: np.ndarray, w: np.ndarray, b: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Convolve, take the largest of each 2x2 window, and rectify; and which of the four it was."""
    # x is (N,H,W,C) with H and W even, w is (3,3,C,F), b is (F,), y and choice are (N,H/2,W/2,F)
    x, panels, b = _halves(x), _panels(w), _plain(b)
    n, height, width, _ = x.shape
    y = np.empty((n, height // 2, width // 2, len(b)), np.uint16)
    choice = np.empty(y.shape, np.uint8)
    group = _group(x.shape[1:], len(b))
    for part in (slice(i, i + group) for i in range(0, n, group)):
        pool_forward(_convolution(x[part], panels, b, False), y[part], choice[part])
    return relu_forward(y), choice


def conv2d_backward(
    dy: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
    dw: np.ndarray,
    db: np.ndarray,
    need_dx: bool = True,
    y: np.ndarray | None = None,
    counts: Sequence[int] = (),
) -> np.ndarray | None:
    """Write the gradients of filters and bias into dw and db; return that of the input."""
    # dy and y are (N,H,W,F), x and dx are (N,H,W,C), w and dw are (3,3,C,F), db is (F,)
    dy, x = _halves(dy), _halves(x)
    if y is not None:
        dy = relu_backward(dy, y)

    def write(part: slice, dw: np.ndarray, db: np.ndarray) -> None:
        _filter_gradient(dy[part], x[part], dw, db)

    tree_sum(write, counts, len(x), dw, db)
    if not need_dx:
        return None
    # The adjoint of a convolution is the convolution with the filters turned by 180 degrees.
    return _convolution(dy, _panels(w, adjoint=True), np.zeros(x.shape[-1], NUMBER), False)


def conv2d_pool_backward(
    dy: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
    dw: np.ndarray,
    db: np.ndarray,
    y: np.ndarray,
    choice: np.ndarray,
    counts: Sequence[int] = (),
) -> np.ndarray | None:
    """The same through rectifier and pooling: dy is the gradient of y, `conv2d_pool_forward`'s."""
    # dy, y and choice are (N,H/2,W/2,F), x and dx are (N,H,W,C), w and dw are (3,3,C,F), db is (F,)
    dy = maxpool_backward(relu_backward(dy.copy(), y), choice)
    return conv2d_backward(dy, x, w, dw, db, counts=counts)


def maxpool_forward(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest of each 2x2 window, and which of the four it was: of equal ones the first."""
    # x is (N,H,W,C) with H and W even, y and choice are (N,H/2,W/2,C)
    x = _halves(x)
    n, height, width, channels = x.shape
    y = np.empty((n, height // 2, width // 2, channels), np.uint16)
    choice = np.empty(y.shape, np.uint8)
    pool_forward(x, y, choice)
    return y, choice


def maxpool_backward(dy: np.ndarray, choice: np.ndarray) -> np.ndarray:
    """Pass each gradient to the pixel that was the largest of its window."""
    # dy and choice are (N,H/2,W/2,C), dx is (N,H,W,C)
    n, height, width, channels = dy.shape
    dx = np.empty((n, 2 * height, 2 * width, channels), np.uint16)
    pool_backward(_halves(dy), choice, dx)
    return dx


def relu_forward(x: np.ndarray) -> np.ndarray:
    """Set negative numbers to zero: in place, or as the numbers are rounded."""
    # x and y are of any shape
    y = _halves(x)
    return np.multiply(y, y < 0x8000, out=y)  # a NaN has no sign, see bfloat16_format.py


def relu_backward(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Set the gradient to zero where the output is not positive, in place."""
    # dy and y are of any shape
    dy = _halves(dy)
    keep_positive(dy.reshape(-1), _plain(y).reshape(-1))
    return dy


def linear_forward(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Multiply by a matrix and add a bias; the result is float32."""
    # x is (N,C), w is (C,F), b is (F,), y is (N,F)
    (n, inputs), outputs = x.shape, w.shape[1]
    padded = padded_to(inputs, 32)
    lines = np.zeros((padded_to(n, 32), padded), np.uint16)
    lines[:n, :inputs] = _halves(x)
    y, panel = np.empty((n, outputs), NUMBER), aligned((AT_ONCE * 32,), HALF)
    sums = aligned((lines.shape[0] * padded_to(outputs, 32),), NUMBER)
    matrix_forward(_at(), lines.reshape(-1), _plain(w), _plain(b), panel, sums, y)
    return y


def linear_backward(
    dy: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
    dw: np.ndarray,
    db: np.ndarray,
    counts: Sequence[int] = (),
) -> np.ndarray:
    """Write the gradients of matrix and bias into dw and db; return that of the input."""
    # dy is (N,F), x and dx are (N,C), w and dw are (C,F), db is (F,)
    linear_backward_weights(dy, x, dw, db, counts)
    return linear_backward_input(dy, w)


def linear_backward_weights(
    dy: np.ndarray, x: np.ndarray, dw: np.ndarray, db: np.ndarray, counts: Sequence[int] = ()
) -> None:
    """Write the gradients of matrix and bias into dw and db."""
    # dy is (N,F), x is (N,C), dw is (C,F), db is (F,)
    dy, x = widened(_halves(dy)), _halves(x)
    (n, outputs), inputs = dy.shape, x.shape[1]
    edges, padded = bounds(counts, n), padded_to(inputs, 32)
    starts = np.concatenate([[0], np.cumsum([padded_to(k, 32) for k in np.diff(edges)])])
    turned = np.zeros(starts[-1] * padded, np.uint16)
    for lo, hi, start, end in zip(edges, edges[1:], starts, starts[1:], strict=False):
        of_part = turned[start * padded : end * padded].reshape(padded, end - start)
        of_part[:inputs, : hi - lo] = x[lo:hi].T
    pairs = aligned((padded_to(outputs, 32) * starts[-1],), HALF)
    levels = tree_levels(counts)
    parts = aligned((levels, BLOCK * 32), NUMBER)
    stack = aligned((levels, padded_to(outputs, LANES)), NUMBER)
    matrix_backward_weights(_at(), dy, turned, edges, starts, pairs, parts, stack, dw, db)


def linear_backward_input(dy: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return the gradient of the input of a product with a matrix."""
    # dy is (N,F), w is (C,F), dx is (N,C)
    (n, outputs), inputs = dy.shape, len(w)
    turned = np.ascontiguousarray(widened(_halves(dy)).T)
    lines = aligned((BLOCK * padded_to(outputs, 32),), HALF)
    pairs = aligned((padded_to(n, 32) * padded_to(outputs, 32),), HALF)
    dx = aligned((padded_to(inputs, 32), padded_to(n, 32)), NUMBER)
    matrix_backward_input(_at(), turned, _plain(w), lines, pairs, dx.reshape(-1))
    return narrowed(dx[:inputs, :n].T)


def dropout_forward(x: np.ndarray, keep: np.ndarray, rate: float) -> np.ndarray:
    """Set to zero what is not kept, and scale the rest by 1/(1-rate); its own adjoint."""
    # x, the result and keep (bool) are (N,C)
    return narrowed(widened(_halves(x)) * (keep * np.float32(1 / (1 - rate))))


def _convolution(x: np.ndarray, panels: np.ndarray, b: np.ndarray, relu: bool) -> np.ndarray:
    """The convolution of rounded images with filters in panels."""
    n, height, width, _ = x.shape
    y = np.empty((n, height, width, len(b)), np.uint16)
    group = min(n, _group(x.shape[1:], len(b)))
    sums = aligned((BLOCK * 32,), NUMBER)
    convolve(_at(), x, panels, b, relu, _stream(x.shape[1:], group), sums, group, y)
    return y


def _filter_gradient(dy: np.ndarray, x: np.ndarray, dw: np.ndarray, db: np.ndarray) -> None:
    """The gradients of filters and bias, of the samples of one part."""
    n, height, width, channels = x.shape
    filters, few = dy.shape[-1], 9 * channels <= 32
    group = min(n, _group(x.shape[1:], filters))
    count = padded_to(group * (height + 1) * (width + 1), 32)
    # An odd number of lines of the cache from row to row.
    length = (padded_to(count + 2 * width + 5, 32) // 32 | 1) * 32
    turned = np.zeros(padded_to(channels, 32) * length, np.uint16)
    unfolded = np.zeros(32 * length if few else 0, np.uint16)
    pairs = aligned((padded_to(filters, 32) * count,), HALF)
    rows, taps = (32, 1) if few else (padded_to(channels, 32), 9)
    panels = 1 if n == group else padded_to(filters, 32) // 32 * taps
    partial = aligned((panels * rows * 32,), NUMBER)
    stream = _stream(dy.shape[1:], group)
    gradient(_at(), dy, x, stream, turned, length, unfolded, group, pairs, partial, dw, db)


def _panels(w: np.ndarray, adjoint: bool = False) -> np.ndarray:
    """Filters, rounded and in tiles."""
    channels, filters = w.shape[:1:-1] if adjoint else w.shape[2:]
    panels = np.empty(padded_to(filters, 32) * 3 * padded_to(3 * channels, 32), np.uint16)
    turned = np.empty(w.size if adjoint else 0, NUMBER)
    filter_panels(_plain(w), adjoint, turned, panels)
    return panels


def _group(image: tuple[int, ...], filters: int) -> int:
    """How many images make one stream: it depends on shapes alone, since bits depend on it."""
    height, width, channels = image
    return max(1, GROUP // ((height + 1) * (width + 1) * (channels + filters)))


def _stream(image: tuple[int, ...], group: int) -> np.ndarray:
    """Room for the images of a stream, for zeros around them, and for rows that nobody uses."""
    height, width, channels = image
    pixels = group * (height + 1) * (width + 1) + 2 * (width + 1) + 3 + 32
    return np.zeros(pixels * channels + 32, np.uint16)


def _halves(array: np.ndarray) -> np.ndarray:
    """The array rounded, and as compiled functions take it."""
    array = _plain(array)
    if array.dtype == HALF:
        return array
    rounded = np.empty(array.shape, np.uint16)
    narrow(array.reshape(-1), rounded.reshape(-1))
    return rounded


def _plain(array: np.ndarray) -> np.ndarray:
    """The array as compiled functions take it."""
    return np.require(array, requirements=["C", "A"])


def _at() -> int:
    """Where the product's machine code lies."""
    return product.address(NUMBER)
