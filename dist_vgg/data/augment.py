"""Augmentation shows the network another drawing of each image in every epoch.

Rotation, scale, shear, shift and a smooth elastic deformation, as writers vary (Simard, Steinkraus
and Platt, "Best practices for convolutional neural networks", ICDAR 2003). What is drawn depends
on seed, epoch and sample id alone, so every rank would draw the same.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from dist_vgg.base.random import generator
from dist_vgg.kernels.arithmetic import NUMPY, Arithmetic

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

    def sources(
        self,
        seed: int,
        epoch: int,
        sample_id: int,
        height: int,
        width: int,
        arithmetic: Arithmetic = NUMPY,
    ) -> np.ndarray:
        """Where in the old image each pixel of the new one comes from: rows, columns.

        The result is (2, height, width).
        """
        return next(self._sources(seed, epoch, [sample_id], height, width, arithmetic))

    def draw(
        self,
        pixels: np.ndarray,
        ids: np.ndarray,
        seed: int,
        epoch: int,
        arithmetic: Arithmetic = NUMPY,
    ) -> np.ndarray:
        """The images as an epoch shows them: float32, in the same units."""
        # pixels is (N,H,W,C), ids is (N,)
        drawn = np.empty(pixels.shape, np.float32)
        height, width = pixels.shape[1:3]
        places = self._sources(seed, epoch, ids, height, width, arithmetic)
        for image, (rows, columns), out in zip(pixels, places, drawn, strict=True):
            out[:] = sample(image, rows, columns)
        return drawn

    def _sources(
        self,
        seed: int,
        epoch: int,
        ids: Sequence[int] | np.ndarray,
        height: int,
        width: int,
        arithmetic: Arithmetic,
    ) -> Iterator[np.ndarray]:
        """The sources of each image."""
        streams = [generator(seed, "augment", epoch, int(sample_id)) for sample_id in ids]
        # Always draw all numbers, so that one strength does not change what the others draw.
        amounts = [stream.uniform(-1, 1, 6) for stream in streams]
        bends = np.empty((len(streams), 2, CELLS + 3, CELLS + 3))
        arithmetic.normal(streams, bends)  # of all images at once, which takes fewer calls
        for amount, bend in zip(amounts, bends, strict=True):
            yield self._source(amount.tolist(), bend, height, width, arithmetic)

    def _source(
        self,
        amounts: Sequence[float],
        bends: np.ndarray,
        height: int,
        width: int,
        arithmetic: Arithmetic,
    ) -> np.ndarray:
        """The sources of one image, from six numbers from -1 to 1 and normal ones."""
        angle, lean, tall, wide, down, right = amounts
        turn = math.radians(self.rotate) * angle
        cos, sin = arithmetic.cos(turn), arithmetic.sin(turn)
        tan = arithmetic.tan(math.radians(self.shear) * lean)
        high, broad = (arithmetic.power(1 + self.scale, amount) for amount in (tall, wide))
        # From the new image's centre back to the old one's: turn, lean, stretch.
        y = (np.arange(height) - (height - 1) / 2)[:, None]
        x = (np.arange(width) - (width - 1) / 2)[None, :]
        x, y = cos * x - sin * y, sin * x + cos * y
        rows = y * high + ((height - 1) / 2 + self.shift * height * down)
        columns = (x + tan * y) * broad + ((width - 1) / 2 + self.shift * width * right)
        if self.deform:
            over_rows, over_columns = (_splines(side, arithmetic) for side in (height, width))
            moves = arithmetic.matmul(arithmetic.matmul(over_rows, bends), over_columns.T)
            rows += (self.deform * height) * moves[0]
            columns += (self.deform * width) * moves[1]
        return np.stack([rows, columns])


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
    above = flat.take(first, 0) * (1 - right) + flat.take(first + 1, 0) * right
    first += width + 3
    below = flat.take(first, 0) * (1 - right) + flat.take(first + 1, 0) * right
    result: np.ndarray = above * (1 - down) + below * down
    return result


@cache
def _splines(length: int, arithmetic: Arithmetic) -> np.ndarray:
    """Cubic B-splines over the elastic grid, at each pixel: (length, CELLS + 3).

    Scaled so that independent normal numbers at the grid's points give displacements of mean
    square 1 (Rueckert et al., "Nonrigid registration using free-form deformations", IEEE TMI 18
    (1999), has the same grid of splines).
    """
    place = (np.arange(length) + 0.5) * CELLS / length
    first = place.astype(int)
    t, power = place - first, arithmetic.power
    square, cube = power(t, 2), power(t, 3)
    weights = np.stack(
        [power(1 - t, 3), 3 * cube - 6 * square + 4, 3 * t * (1 + t - square) + 1, cube], axis=1
    )
    splines = np.zeros((length, CELLS + 3))
    np.put_along_axis(splines, first[:, None] + np.arange(4), weights, axis=1)
    mean_square = arithmetic.total(arithmetic.total(power(splines, 2), axis=1)) / length
    scaled: np.ndarray = splines / power(mean_square, 0.5)
    return scaled
