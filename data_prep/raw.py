"""A data set as it came from its source, before images are chosen, resized and dealt."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from data_prep.idx import idx_sha256
from dist_vgg.base.errors import UserError
from dist_vgg.data.pictures import network_pixels

ORIGINS = ("train", "test")  # the splits that a source has
CLASSES = 10  # of MNIST and its likes

Arrays = dict[str, np.ndarray]  # by split, or by the name of the file that holds them


class Pictures(Protocol):
    """The images of a split, wherever they are."""

    def __len__(self) -> int: ...

    def pixels(self, row: int, size: int, channels: int, fit: str) -> np.ndarray:
        """One image as `network_pixels` makes it: (size, size, channels) uint8.

        Raises BadPicture where it can't be read.
        """

    def sha256(self) -> str:
        """SHA-256 of all images as they came."""


@dataclass(frozen=True)
class ArrayPictures:
    """Images in memory, all of one size."""

    array: np.ndarray  # (n, height, width) or (n, height, width, 3) uint8

    def __len__(self) -> int:
        return len(self.array)

    def pixels(self, row: int, size: int, channels: int, fit: str) -> np.ndarray:
        """One image as a network sees it."""
        return network_pixels(Image.fromarray(self.array[row]), size, channels, fit)

    def sha256(self) -> str:
        """SHA-256 of the IDX file that holds the images."""
        return idx_sha256(self.array)


@dataclass(frozen=True)
class Raw:
    """Images, labels and ids of each split ("train" and "test")."""

    source: str  # "mnist", or "digits" for scikit-learn's stand-in, ...
    pictures: Mapping[str, Pictures]
    labels: Arrays  # (n,) uint8, or uint16 where there are more than 256 classes
    ids: Arrays  # (n,) int64, the index in the file that the split came from
    classes: int = CLASSES
    class_names: tuple[str, ...] = ()  # empty where classes have numbers only
    channels: int = 1
    preparation: str = "digit"  # how a picture becomes such an image: "digit", or how it is fitted

    def digest(self) -> str:
        """SHA-256 over the images, labels and names of classes of both splits."""
        parts = [self.pictures[split].sha256() for split in ORIGINS]
        parts += [_labels_sha256(self.labels[split]) for split in ORIGINS]
        parts += [json.dumps(self.class_names)] if self.class_names else []
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def _labels_sha256(labels: np.ndarray) -> str:
    if labels.dtype == np.uint8:
        return idx_sha256(labels)
    return idx_sha256(labels.astype("<u2").view(np.uint8).reshape(-1, 2))


def check_classes(raw: Raw, called: str) -> None:
    """Raise UserError, which names the source as `called`, where a class lacks images."""
    if raw.classes < 2:
        raise UserError(f"{called} has images of one class only; there is nothing to learn")
    for split, word in (("train", "training"), ("test", "test")):
        counts = np.bincount(raw.labels[split], minlength=raw.classes)
        if not counts.all():
            label = int(counts.argmin())
            name = raw.class_names[label] if raw.class_names else label
            raise UserError(f"{called} has no {word} images of the class {name}; add some")
