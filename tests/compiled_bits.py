"""Print a hash of what a compiled kernel set makes of fixed numbers: compiled_bits.py SET."""

import hashlib
import importlib
import sys

import numpy as np

kernels = importlib.import_module(f"dist_vgg.kernels.{sys.argv[1]}")
draw = np.random.Generator(np.random.Philox(1))
found = hashlib.sha256()


def numbers(*shape: int) -> np.ndarray:
    """Whole numbers of 23 bits, which are the same everywhere, as float32 in -0.5 .. 0.5."""
    return (draw.integers(-(2**22), 2**22, shape) * 2.0**-23).astype(np.float32)


def show(*arrays: np.ndarray) -> None:
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())


for n, side, channels, filters in (
    (2, 8, 64, 64), (3, 8, 16, 32), (2, 6, 33, 70), (3, 2, 128, 130), (2, 12, 130, 260),
    (2, 8, 1, 64),
):  # fmt: skip
    x, w, b = numbers(n, side, side, channels), numbers(3, 3, channels, filters), numbers(filters)
    y = kernels.conv2d_forward(x, w, b, True)
    dw, db = np.empty_like(w), np.empty_like(b)
    dx = kernels.conv2d_backward(numbers(*y.shape), x, w, dw, db, True, y)
    show(y, dw, db, dx)
    show(*kernels.maxpool_forward(y))
for n, inputs, outputs in ((3, 33, 10), (4, 100, 70), (20, 64, 130)):
    x, w, b = numbers(n, inputs), numbers(inputs, outputs), numbers(outputs)
    dw, db = np.empty_like(w), np.empty_like(b)
    dx = kernels.linear_backward(numbers(n, outputs), x, w, dw, db)
    show(kernels.linear_forward(x, w, b), dw, db, dx)
    show(*kernels.cross_entropy(x, np.arange(n), 64, 0.1))
print(found.hexdigest()[:16])
