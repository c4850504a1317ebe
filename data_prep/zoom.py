"""Enlarging images to the size that VGG16 takes."""

import numpy as np
from PIL import Image
from tqdm import tqdm

ZOOM = "bicubic"  # the name of the filter in the shards


def enlarge(images: np.ndarray, size: int, label: str = "") -> np.ndarray:
    """Enlarge images by bicubic interpolation; a terminal sees a progress bar with the label."""
    # images is (n, h, w) uint8, the result is (n, size, size, 1) uint8
    large = np.empty((len(images), size, size, 1), np.uint8)
    # None: the bar shows only on a terminal.
    for row, image in enumerate(tqdm(images, label, unit=" images", disable=None)):
        picture = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)
        large[row, :, :, 0] = np.asarray(picture)
    return large
