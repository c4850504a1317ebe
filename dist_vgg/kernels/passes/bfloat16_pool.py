"""2x2 max-pooling of bfloat16, see pool.py."""

from numba.types import int16, uint16

from dist_vgg.kernels.jit import jit
from dist_vgg.kernels.passes.halves import halves_4
from dist_vgg.kernels.passes.lanes import inline, marks


@jit(halves_4, halves_4, marks)
def forward(x, y, choice):
    """y is the largest of each window, and choice which of the four: of equal ones the first.

    A NaN counts as the largest.
    """
    # x is (N,H,W,C), y and choice are (N,H/2,W/2,C)
    n, height, wide, channels = y.shape
    for image in range(n):
        for i in range(height):
            for j in range(wide):
                for c in range(channels):
                    best, where = x[image, 2 * i, 2 * j, c], 0
                    for k in range(1, 4):
                        other = x[image, 2 * i + k // 2, 2 * j + k % 2, c]
                        larger = _ordered(other) > _ordered(best)
                        best, where = (other, k) if larger else (best, where)
                    y[image, i, j, c] = best
                    choice[image, i, j, c] = where


@inline
def _ordered(half):
    """A whole number that is larger for a larger bfloat16, and largest for NaN."""
    signed = int16(half)
    return int16(signed ^ ((signed >> 15) & 0x7FFF))


@jit(halves_4, marks, halves_4)
def backward(dy, choice, dx):
    """Pass each gradient to the pixel that was the largest of its window."""
    # dy and choice are (N,H/2,W/2,C), dx is (N,H,W,C)
    n, height, wide, channels = dy.shape
    for image in range(n):
        for i in range(height):
            for j in range(wide):
                for k in range(4):
                    for c in range(channels):
                        d = dy[image, i, j, c] if choice[image, i, j, c] == k else uint16(0)
                        dx[image, 2 * i + k // 2, 2 * j + k % 2, c] = d
