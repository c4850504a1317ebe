"""Every operation of the network as a textbook states it: forward, and backward as its adjoint.

The functions keep no state. Activations are NHWC, filters (kh, kw, in, out). Arrays keep their
dtype: float32 in training, float64 where a gradient is checked.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from dist_vgg.kernels.arithmetic import NUMPY
from dist_vgg.kernels.parts import tree_sum

NAME, VERSION, ARITHMETIC, TOGETHER, BY_ROWS = "reference", 1, NUMPY, 0, False

# A block of unfolded patches should stay in a core's share of the cache while BLAS reads it, and so
# should the images that are pooled at a time.
PATCH_BYTES, POOL_BYTES = 4 << 20, 1 << 20
PIECE, FEW_SAMPLES = 128, 32  # side of a piece of a large matrix, and for how many samples


def conv2d_forward(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None, relu: bool = False
) -> np.ndarray:
    """Convolve with 3x3 filters (or any odd size), stride 1 and zero padding that keeps the size.

    With `relu` the output is rectified.
    """
    # x is (N,H,W,C), w is (kh,kw,C,F), b is (F,), y is (N,H,W,F)
    kh, kw, _, filters = w.shape
    y = np.empty((*x.shape[:3], filters), x.dtype)
    matrix = w.reshape(-1, filters)
    for block, patches in _patches(x, kh, kw, filters):
        part = _rows(y, block)
        np.matmul(patches, matrix, out=part)
        if b is not None:
            add_bias(part, b, x.shape[2])
        if relu:
            relu_forward(part)
    return y


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
    """Write the gradients of filters and bias into dw and db; return that of the input.

    Given y, the rectified output, first set dy to zero where y is, in place.
    """

    # dy and y are (N,H,W,F), x and dx are (N,H,W,C), w and dw are (kh,kw,C,F), db is (F,)
    def write(part: slice, dw: np.ndarray, db: np.ndarray) -> None:
        _filter_gradient(dy[part], x[part], dw, db, None if y is None else y[part])

    tree_sum(write, counts, len(x), dw, db)
    if not need_dx:
        return None
    # The adjoint of a convolution is the convolution with the filters turned by 180 degrees.
    turned = np.ascontiguousarray(w[::-1, ::-1].transpose(0, 1, 3, 2))
    return conv2d_forward(dy, turned, None)


def _filter_gradient(
    dy: np.ndarray, x: np.ndarray, dw: np.ndarray, db: np.ndarray, y: np.ndarray | None
) -> None:
    """Write a micro-batch's gradients into dw and db; y, if given, first rectifies dy."""
    # dy and y are (N,H,W,F), x is (N,H,W,C), dw is (kh,kw,C,F), db is (F,)
    kh, kw, _, filters = dw.shape
    matrix = dw.reshape(-1, filters)
    matrix[:], db[:] = 0, 0
    for block, patches in _patches(x, kh, kw, filters):
        part = _rows(dy, block)
        if y is not None:
            relu_backward(part, _rows(y, block))
        matrix += patches.T @ part
        db += np.ones(len(part), part.dtype) @ part


def _patches(
    x: np.ndarray, kh: int, kw: int, filters: int
) -> Iterator[tuple[tuple[slice, slice], np.ndarray]]:
    """Unfold the input (im2col) block by block: (images and rows of y, patches as a matrix).

    The blocks depend on the shape alone, so that sums over them keep their order.
    """
    # x is (N,H,W,C), patches are (pixels of the block, kh*kw*C)
    n, height, width, channels = x.shape
    padded = np.zeros((n, height + kh - 1, width + kw - 1, channels), x.dtype)
    padded[:, kh // 2 : kh // 2 + height, kw // 2 : kw // 2 + width] = x
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kh, kw), axis=(1, 2))
    windows = windows.transpose(0, 1, 2, 4, 5, 3)  # (N,H,W,kh,kw,C)
    row_bytes = width * max(kh * kw * channels, filters) * x.itemsize
    rows = max(1, PATCH_BYTES // row_bytes)
    images = max(1, rows // height)
    rows = min(rows, height)
    buffer = np.empty((min(images, n) * rows * width, kh * kw * channels), x.dtype)
    for i in range(0, n, images):
        for r in range(0, height, rows):
            block = (slice(i, min(i + images, n)), slice(r, min(r + rows, height)))
            source = windows[block]
            patches = buffer[: source.shape[0] * source.shape[1] * width]
            np.copyto(patches.reshape(source.shape), source)
            yield block, patches


def _rows(y: np.ndarray, block: tuple[slice, slice]) -> np.ndarray:
    """A block of images and rows as a matrix of pixels by channels, without a copy."""
    # y is (N,H,W,F), the result (pixels of the block, F)
    part = y[block]
    # A block is several whole images, or rows of one image: either is contiguous.
    return part.reshape(-1, part.shape[-1])


def add_bias(y: np.ndarray, b: np.ndarray, width: int) -> None:
    """Add the bias to every pixel, in place; y has whole lines of images.

    Works on a line at a time: for the few numbers of one pixel NumPy's loop would take longer to
    start than to run.
    """
    # y is (...,W,F) or a matrix of its pixels, b is (F,), width is W
    lines = y.reshape(-1, width * len(b))
    lines += np.tile(b, width)


def maxpool_forward(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest of each 2x2 window, and which of the four it was: of equal ones the first."""
    # x is (N,H,W,C) with H and W even, y and choice are (N,H/2,W/2,C)
    n, height, width, channels = x.shape
    y = np.empty((n, height // 2, width // 2, channels), x.dtype)
    choice = np.empty(y.shape, np.uint8)
    images = max(1, POOL_BYTES // max(1, x[:1].nbytes))
    for i in range(0, n, images):
        block = slice(i, i + images)
        a, b, c, d = (x[block, i::2, j::2] for i in (0, 1) for j in (0, 1))
        upper = np.maximum(a, b, out=y[block])
        lower = np.maximum(c, d)
        below = lower > upper
        right, lower_right = b > a, d > c
        np.maximum(upper, lower, out=upper)
        # On bits, "lower_right where below, else right" takes three operations and no branch.
        right ^= (right ^ lower_right) & below
        np.left_shift(below.view(np.uint8), 1, out=choice[block])
        choice[block] |= right.view(np.uint8)
    return y, choice


def maxpool_backward(dy: np.ndarray, choice: np.ndarray) -> np.ndarray:
    """Pass each gradient to the pixel that was the largest of its window."""
    # dy and choice are (N,H/2,W/2,C), dx is (N,H,W,C)
    n, height, width, channels = dy.shape
    dx = np.empty((n, 2 * height, 2 * width, channels), dy.dtype)
    for k, (i, j) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        np.multiply(dy, choice == k, out=dx[:, i::2, j::2])
    return dx


def conv2d_pool_forward(
    x: np.ndarray, w: np.ndarray, b: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Convolve, take the largest of each 2x2 window, and rectify; and which of the four it was."""
    # x is (N,H,W,C) with H and W even, w is (kh,kw,C,F), b is (F,), y and choice are (N,H/2,W/2,F)
    y, choice = maxpool_forward(conv2d_forward(x, w, b))
    # Behind the pooling a rectifier gives the same numbers, with a quarter of the work.
    return relu_forward(y), choice


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
    """Write the gradients of filters and bias into dw and db; return that of the input."""
    # dy, y and choice are (N,H/2,W/2,F), x and dx are (N,H,W,C), w and dw are (kh,kw,C,F),
    # db is (F,)
    dy = maxpool_backward(relu_backward(dy, y), choice)
    return conv2d_backward(dy, x, w, dw, db, counts=counts)


def relu_forward(x: np.ndarray) -> np.ndarray:
    """Set negative numbers to zero, in place."""
    # x and y are of any shape
    return np.maximum(x, 0, out=x)


def relu_backward(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Set the gradient to zero where the output is not positive, in place."""
    # dy and y are of any shape
    dy *= y > 0
    return dy


def linear_forward(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Multiply by a matrix and add a bias."""
    # x is (N,C), w is (C,F), b is (F,), y is (N,F)
    if _in_pieces(len(x), w):
        pieces = w.reshape(-1, PIECE, w.shape[1] // PIECE, PIECE).swapaxes(1, 2)
        products = x.reshape(len(x), -1, 1, PIECE).transpose(1, 2, 0, 3) @ pieces
        y = products.sum(axis=0).swapaxes(0, 1).reshape(len(x), -1)
    else:
        y = x @ w
    y += b
    return y


def linear_backward(
    dy: np.ndarray, x: np.ndarray, w: np.ndarray, dw: np.ndarray, db: np.ndarray,
    counts: Sequence[int] = (),
) -> np.ndarray:  # fmt: skip
    """Write the gradients of matrix and bias into dw and db; return that of the input."""
    # dy is (N,F), x and the result are (N,C), w and dw are (C,F), db is (F,)
    linear_backward_weights(dy, x, dw, db, counts)
    return linear_backward_input(dy, w)


def linear_backward_weights(
    dy: np.ndarray, x: np.ndarray, dw: np.ndarray, db: np.ndarray, counts: Sequence[int] = ()
) -> None:
    """Write the gradients of matrix and bias into dw and db."""

    # dy is (N,F), x is (N,C), dw is (C,F), db is (F,)
    def write(part: slice, dw: np.ndarray, db: np.ndarray) -> None:
        x_part, dy_part = x[part], dy[part]
        rows = 4 if _in_pieces(len(x_part), dw) else len(dw)
        columns = x_part.T.reshape(len(dw) // rows, rows, len(x_part))
        np.matmul(columns, dy_part, out=dw.reshape(len(columns), rows, -1))
        np.sum(dy_part, axis=0, out=db)

    tree_sum(write, counts, len(x), dw, db)


def linear_backward_input(dy: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return the gradient of the input of a product with a matrix."""
    # dy is (N,F), w is (C,F), dx is (N,C)
    # (w dy')' and not dy w': then BLAS reads w, by far the largest, in the order of memory.
    return np.ascontiguousarray((w @ np.ascontiguousarray(dy.T)).T)


def _in_pieces(samples: int, w: np.ndarray) -> bool:
    """Whether to multiply by a large matrix in pieces: a rule of shapes alone, for equal bits.

    OpenBLAS first copies a large matrix into its own order, and sets the result to zero before it
    adds to it. With few samples this takes longer than the product itself. Small matrices it
    multiplies where they lie.
    """
    return 1 < samples <= FEW_SAMPLES and all(side % PIECE == 0 for side in w.shape)


def dropout_forward(x: np.ndarray, keep: np.ndarray, rate: float) -> np.ndarray:
    """Set to zero what is not kept, and scale the rest by 1/(1-rate); evaluation then does nothing.

    Srivastava et al., "Dropout", JMLR 15 (2014), in its inverted form. The adjoint is the same
    function, applied to the gradient.
    """
    # x, y and keep (bool) are (N,C)
    return x * (keep * x.dtype.type(1 / (1 - rate)))


def softmax(logits: np.ndarray) -> np.ndarray:
    """The probabilities of the classes."""
    # logits and p are (N,K)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return p


def cross_entropy(
    logits: np.ndarray, labels: np.ndarray, total: int, smoothing: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """The loss of each sample, and the gradient of (sum of losses / total) by the logits.

    `total` is the size of the *global* batch, so that the gradients of all micro-batches add up to
    the gradient of the mean loss of the step. With `smoothing` the target probability of the label
    is lowered by that much, which all classes share equally (Szegedy et al., "Rethinking the
    Inception architecture", CVPR 2016).
    """
    # logits and dlogits are (N,K), labels is (N,), losses is (N,)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1))
    rows = np.arange(len(labels))
    losses = log_sum - shifted[rows, labels]
    dlogits = np.exp(shifted - log_sum[:, None])
    if smoothing:
        classes = logits.shape[1]
        losses = (1 - smoothing) * losses + smoothing * (log_sum - shifted.mean(axis=1))
        dlogits -= smoothing / classes
    dlogits[rows, labels] -= 1 - smoothing
    dlogits *= dlogits.dtype.type(1 / total)
    return losses, dlogits
