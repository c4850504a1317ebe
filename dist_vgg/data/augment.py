"""Augmentation shows the network another drawing of each image in every epoch.

Rotation, scale, shear, shift and a smooth elastic deformation, as writers vary (Simard, Steinkraus
and Platt, "Best practices for convolutional neural networks", ICDAR 2003). What is drawn depends
on seed, epoch and sample id alone, so every rank would draw the same.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from dist_vgg.base.random import generator

CELLS = 6  # of the elastic grid along a side: a sixth of an image bends as one


@dataclass(frozen=True)
class Augment:
    """How strongly images are varied; 0 turns a variation off."""

    rotate: float = 0.0  # degrees, either way
    scale: float = 0.0  # width and height, each from 1/(1+scale) to 1+scale
    shear: float = 0.0  # degrees that verticals lean, either way
    shift: float = 0.0  # of the side, along each axis, either way
    deform: float = 0.0  # of the side: root mean square of how far a pixel moves along an axis

    def __bool__(self) -> bool:
        return any(vars(self).values())

    def sources(self, seed: int, epoch: int, sample_id: int, height: int, width: int) -> np.ndarray:
        """Where in the old image each pixel of the new one comes from: rows, columns.

        The result is (2, height, width).
        """
        draw = generator(seed, "augment", epoch, sample_id)
        # Always draw all numbers, so that one strength does not change what the others draw.
        angle, lean, tall, wide, down, right = draw.uniform(-1, 1, 6)
        bends = draw.standard_normal((2, CELLS + 3, CELLS + 3))
        turn = math.radians(self.rotate) * angle
        cos, sin = math.cos(turn), math.sin(turn)
        tan = math.tan(math.radians(self.shear) * lean)
        high, broad = ((1 + self.scale) ** amount for amount in (tall, wide))
        # From the new image's centre back to the old one's: turn, lean, stretch.
        y = (np.arange(height) - (height - 1) / 2)[:, None]
        x = (np.arange(width) - (width - 1) / 2)[None, :]
        x, y = cos * x - sin * y, sin * x + cos * y
        rows = y * high + ((height - 1) / 2 + self.shift * height * down)
        columns = (x + tan * y) * broad + ((width - 1) / 2 + self.shift * width * right)
        if self.deform:
            over_rows, over_columns = _splines(height), _splines(width)
            rows += (self.deform * height) * (over_rows @ bends[0] @ over_columns.T)
            columns += (self.deform * width) * (over_rows @ bends[1] @ over_columns.T)
        return np.stack([rows, columns])

    def draw(self, pixels: np.ndarray, ids: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        """The images as an epoch shows them: float32, in the same units."""
        # pixels is (N,H,W,C), ids is (N,)
        drawn = np.empty(pixels.shape, np.float32)
        for image, sample_id, out in zip(pixels, ids, drawn, strict=True):
            out[:] = sample(image, *self.sources(seed, epoch, int(sample_id), *image.shape[:2]))
        return drawn


def sample(image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """An image's values at places between its pixels, interpolated bilinearly; 0 outside."""
    # image is (H,W,C), rows and columns are (h,w), the result is (h,w,C)
    height, width, channels = image.shape
    # A frame of zeros, which serves every place outside the image.
    framed = np.zeros((height + 3, width + 3, channels), np.float32)
    framed[1:-2, 1:-2] = image
    rows = np.clip(rows + 1, 0, height + 1)
    columns = np.clip(columns + 1, 0, width + 1)
    top, left = rows.astype(np.intp), columns.astype(np.intp)
    down = (rows - top).astype(np.float32)[..., None]
    right = (columns - left).astype(np.float32)[..., None]
    flat = framed.reshape(-1, channels)
    first = top * (width + 3) + left
    above = flat[first] * (1 - right) + flat[first + 1] * right
    below = flat[first + width + 3] * (1 - right) + flat[first + width + 4] * right
    result: np.ndarray = above * (1 - down) + below * down
    return result


@cache
def _splines(length: int) -> np.ndarray:
    """Cubic B-splines over the elastic grid, at each pixel: (length, CELLS + 3).

    Scaled so that independent normal numbers at the grid's points give displacements of mean
    square 1 (Rueckert et al., "Nonrigid registration using free-form deformations", IEEE TMI 18
    (1999), has the same grid of splines).
    """
    place = (np.arange(length) + 0.5) * CELLS / length
    first = place.astype(int)
    t = place - first
    weights = np.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 3 * t * (1 + t - t**2) + 1, t**3], axis=1
    )
    splines = np.zeros((length, CELLS + 3))
    np.put_along_axis(splines, first[:, None] + np.arange(4), weights, axis=1)
    scaled: np.ndarray = splines / (splines**2).sum(axis=1).mean() ** 0.5
    return scaled
