"""Samples are labelled images in memory, each with its id in the original data set."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dist_vgg.base.chunks import StackedRows

SPLITS = ("train", "test", "held-out")  # a set may do without the last


@dataclass(frozen=True)
class Samples:
    """Labelled images; a slice or an array of rows selects some of them.

    Pixels that lie in a file are anything with a length, a shape and rows, as RowsOnDemand of
    base/chunks.py; rows that are selected are arrays in memory.
    """

    pixels: np.ndarray  # (n, size, size, channels) uint8
    labels: np.ndarray  # (n,) uint8, or uint16 for more than 256 classes
    ids: np.ndarray  # (n,) int64

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: slice | np.ndarray) -> "Samples":
        return Samples(self.pixels[rows], self.labels[rows], self.ids[rows])

    @property
    def on_demand(self) -> bool:
        """Whether pixels are read from a file when they are needed."""
        return not isinstance(self.pixels, np.ndarray)

    def first(self, count: int | None) -> "Samples":
        """The first so many samples, whose pixels stay where they are."""
        if not self.on_demand:
            return self[:count]
        return Samples(self.pixels, self.labels[:count], self.ids[:count])


def joined(parts: Sequence[Samples]) -> Samples:
    """All samples of several parts, in order; pixels that are in files stay there."""
    if len(parts) == 1:
        return parts[0]
    pixels, *others = zip(*((part.pixels, part.labels, part.ids) for part in parts), strict=True)
    stack: Any = StackedRows if any(part.on_demand for part in parts) else np.concatenate
    return Samples(stack(pixels), *map(np.concatenate, others))


def label_type(classes: int) -> type[np.unsignedinteger]:
    """The type of the labels of so many classes."""
    return np.uint8 if classes <= 256 else np.uint16


def normalise(pixels: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Turn uint8 pixels into float32 of mean 0 and standard deviation 1.

    `pixels` are (n, height, width, channels). `mean` and `std` are those of the training set
    (`SetInfo` and `Weights` have them), for test images too: one for each channel, or one for all.
    """
    x = pixels.astype(np.float32)
    x -= np.array(mean, np.float32)
    x *= (1 / np.array(std, np.float64)).astype(np.float32)
    return x


def pixel_statistics(
    pixels: np.ndarray, together: bool = False
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Means and standard deviations of uint8 pixels, (n, h, w, channels), from exact integer sums.

    There is one of each for every channel, or one for all `together`. A channel whose pixels are
    all alike counts as of deviation 1.
    """
    channels = 1 if together else pixels.shape[3]
    counts = np.zeros((channels, 256), np.int64)
    for rows in blocks(pixels, 1 << 20):  # bincount makes int64 of what it counts
        values = pixels[rows].reshape(-1, channels)
        for channel in range(channels):
            counts[channel] += np.bincount(values[:, channel], minlength=256)
    moments = [_moments(row) for row in counts.tolist()]
    return tuple(mean for mean, _ in moments), tuple(std or 1.0 for _, std in moments)


def _moments(counts: Sequence[int]) -> tuple[float, float]:
    """Mean and standard deviation of the values 0, 1, 2, ..., so many of each."""
    total = sum(counts)
    first = sum(value * n for value, n in enumerate(counts))
    second = sum(value * value * n for value, n in enumerate(counts))
    return first / total, math.sqrt((total * second - first * first) / (total * total))


def blocks(pixels: np.ndarray, size: int = 1 << 22) -> Iterator[slice]:
    """Slices of rows that together are all images, each of about `size` bytes."""
    step = max(1, size // max(1, math.prod(pixels.shape[1:])))
    return (slice(start, start + step) for start in range(0, len(pixels), step))


def set_digest(splits: Mapping[str, Samples]) -> str:
    """SHA-256 of a data set: its samples in order of split and id, however they are sharded."""
    digest = hashlib.sha256()
    for split in SPLITS:
        if split not in splits:
            continue
        samples = splits[split]
        digest.update(f"{split} {samples.pixels.shape}".encode())
        order = np.argsort(samples.ids, kind="stable")
        digest.update(samples.ids[order].astype("<i8").tobytes())
        few = samples.labels.max(initial=0) < 256
        digest.update(samples.labels[order].astype("u1" if few else "<u2").tobytes())
        for rows in blocks(samples.pixels):
            digest.update(samples.pixels[order[rows]].tobytes())
    return digest.hexdigest()
