"""Tiny data sets in MNIST's own file format, for tests."""

import gzip
from pathlib import Path

import numpy as np

from data_prep import mnist
from data_prep.idx import idx_bytes

ArrayDict = dict[str, np.ndarray]


def tiny_arrays(train: int = 60, test: int = 20, side: int = 6, seed: int = 0) -> ArrayDict:
    """Random images with labels 0, 1, ... 9, 0, ..., by the names of MNIST's files."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for split, count in (("train", train), ("test", test)):
        images, labels = mnist.FILES[split]
        arrays[images] = rng.integers(0, 256, (count, side, side), np.uint8)
        arrays[labels] = (np.arange(count) % 10).astype(np.uint8)
    return arrays


def write_files(folder: Path, arrays: ArrayDict, zipped: bool = True) -> Path:
    """Write arrays as IDX files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        data = idx_bytes(array)
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(data, 1))
        else:
            (folder / name).write_bytes(data)
    return folder
