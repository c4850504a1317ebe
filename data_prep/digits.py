"""scikit-learn's handwritten digits, the stand-in for MNIST that needs no download.

E. Alpaydin and C. Kaynak, "Optical recognition of handwritten digits", UCI, 1998.
"""

import numpy as np

from data_prep.raw import ArrayPictures, Raw
from dist_vgg.base.errors import UserError


def load() -> Raw:
    """All 1,797 digits of 8x8 pixels; every fifth one is for the test."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError(
            "scikit-learn, which brings the stand-in for MNIST, is not installed; "
            "pip install 'dist_vgg[digits]'"
        ) from error
    data = load_digits()
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)
    labels = data.target.astype(np.uint8)
    every = np.arange(len(labels))
    ids = {"train": every[every % 5 != 0], "test": every[every % 5 == 0]}
    return Raw(
        "digits",
        {split: ArrayPictures(images[rows]) for split, rows in ids.items()},
        {split: labels[rows] for split, rows in ids.items()},
        ids,
    )
