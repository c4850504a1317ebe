"""A data set as it came from its source, before images are chosen, enlarged and dealt."""

import hashlib
from dataclasses import dataclass

import numpy as np

from data_prep.idx import idx_sha256

CLASSES = 10  # of every source

Arrays = dict[str, np.ndarray]  # by split, or by the name of the file that holds them


@dataclass(frozen=True)
class Raw:
    """Images, labels and ids of each split ("train" and "test")."""

    source: str  # "mnist", or "digits" for scikit-learn's stand-in
    images: Arrays  # (n, height, width) uint8
    labels: Arrays  # (n,) uint8, 0..9
    ids: Arrays  # (n,) int64, the index in the file that the split came from

    def digest(self) -> str:
        """SHA-256 over the images and labels of both splits."""
        arrays = [
            field[split] for field in (self.images, self.labels) for split in ("train", "test")
        ]
        return hashlib.sha256(" ".join(map(idx_sha256, arrays)).encode()).hexdigest()

    def hold_out(self, rows: np.ndarray) -> "Raw":
        """This data set with some of its training images in place of its test images."""
        images, labels, ids = (
            {"train": arrays["train"], "test": arrays["train"][rows]}
            for arrays in (self.images, self.labels, self.ids)
        )
        return Raw(self.source, images, labels, ids)
