"""2x2 max-pooling."""

from dist_vgg.kernels.jit import jit
from dist_vgg.kernels.passes.lanes import four, marks


@jit(four, four, marks)
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
                    right = x[image, 2 * i, 2 * j + 1, c]
                    if right > best or right != right:
                        best, where = right, 1
                    below = x[image, 2 * i + 1, 2 * j, c]
                    if below > best or below != below:
                        best, where = below, 2
                    last = x[image, 2 * i + 1, 2 * j + 1, c]
                    if last > best or last != last:
                        best, where = last, 3
                    y[image, i, j, c] = best
                    choice[image, i, j, c] = where


@jit(four, marks, four)
def backward(dy, choice, dx):
    """Pass each gradient to the pixel that was the largest of its window."""
    # dy and choice are (N,H/2,W/2,C), dx is (N,H,W,C)
    n, height, wide, channels = dy.shape
    for image in range(n):
        for i in range(height):
            for j in range(wide):
                for k in range(4):
                    for c in range(channels):
                        d = dy[image, i, j, c]
                        dx[image, 2 * i + k // 2, 2 * j + k % 2, c] = (
                            d if choice[image, i, j, c] == k else 0
                        )
