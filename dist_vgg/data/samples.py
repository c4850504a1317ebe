"""Samples are labelled images in memory, each with its id in the original data set."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Samples:
    """Labelled images; a slice or an array of rows selects some of them."""

    pixels: np.ndarray  # (n, size, size, channels) uint8
    labels: np.ndarray  # (n,) uint8
    ids: np.ndarray  # (n,) int64

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: slice | np.ndarray) -> "Samples":
        return Samples(self.pixels[rows], self.labels[rows], self.ids[rows])


def joined(parts: Sequence[Samples]) -> Samples:
    """All samples of several parts, in order."""
    if len(parts) == 1:
        return parts[0]
    arrays = zip(*((part.pixels, part.labels, part.ids) for part in parts), strict=True)
    return Samples(*map(np.concatenate, arrays))


def normalise(pixels: np.ndarray, mean: float, std: float) -> np.ndarray:
    """Turn uint8 pixels into float32 of mean 0 and standard deviation 1.

    `mean` and `std` are those of the training set (`SetInfo` and `Weights` have them), for test
    images too.
    """
    x = pixels.astype(np.float32)
    x -= np.float32(mean)
    x *= np.float32(1 / std)
    return x


def pixel_statistics(pixels: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of all uint8 pixels, from exact integer sums."""
    counts = np.zeros(256, np.int64)
    for start in range(0, len(pixels), 1024):  # bincount makes int64 of what it counts
        counts += np.bincount(pixels[start : start + 1024].reshape(-1), minlength=256)
    total = sum(int(n) for n in counts)
    first = sum(value * int(n) for value, n in enumerate(counts))
    second = sum(value * value * int(n) for value, n in enumerate(counts))
    variance = (total * second - first * first) / (total * total)
    return first / total, math.sqrt(variance)


def set_digest(splits: Mapping[str, Samples]) -> str:
    """SHA-256 of a data set: its samples in order of split and id, however they are sharded."""
    digest = hashlib.sha256()
    for split in SPLITS:
        samples = splits[split]
        digest.update(f"{split} {samples.pixels.shape}".encode())
        order = np.argsort(samples.ids, kind="stable")
        digest.update(samples.ids[order].astype("<i8").tobytes())
        digest.update(samples.labels[order].astype("u1").tobytes())
        for row in order:
            digest.update(samples.pixels[row].tobytes())
    return digest.hexdigest()
