"""Pictures drawn for tests: a 7, in uneven light, and what is no digit."""

import numpy as np
from PIL import Image


def seven(width: int = 60, height: int = 90) -> np.ndarray:
    """A 7, white on black, in the middle of a picture that is not square."""
    pixels = np.zeros((height, width), np.uint8)
    pixels[25:31, 20:42] = 255
    for row in range(31, 65):
        left = 37 - (row - 31) // 3
        pixels[row, left : left + 5] = 255
    return pixels


def specks() -> np.ndarray:
    """Two bright points, too far apart to be seen once they are brought into a small frame."""
    pixels = np.zeros((1000, 1000), np.uint8)
    pixels[3, 5] = pixels[990, 980] = 255
    return pixels


def alike(found: Image.Image | None, digit: np.ndarray) -> float:
    """The cosine of the angle between two digits of MNIST's kind: 1 for the same shape."""
    if found is None:
        return 0
    a, b = np.asarray(found, float).ravel(), digit.astype(float).ravel()
    return a @ b / np.sqrt((a @ a) * (b @ b))


def uneven(pixels: np.ndarray, darkest: float = 0.4) -> np.ndarray:
    """Dark ink on beige paper, lit from one corner, with some noise; from white ink on black."""
    height, width = pixels.shape
    light = np.linspace(1, darkest, height * width).reshape(height, width)
    noise = np.random.default_rng(0).normal(0, 3, pixels.shape)
    return np.clip(light * (220 - pixels * (180 / 255)) + noise, 0, 255).astype(np.uint8)
