"""What the tests of data_prep share: how it is called, and what a folder holds."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from launcher import ROOT
from lies import say

from data_prep.raw import ArrayPictures
from dist_vgg import Dataset
from dist_vgg.data.dataset import load_shard, open_set
from dist_vgg.data.samples import Samples

Run = Callable[..., tuple[int, str, str]]


def everything(folder: Path) -> dict[str, Samples]:
    """All samples of a prepared folder, in order of id."""
    info = open_set(folder)
    splits = {}
    for split in info.splits:
        parts = [load_shard(folder, split, i, info) for i in range(info.shards)]
        joined = [
            np.concatenate([getattr(p, name) for p in parts])
            for name in ("pixels", "labels", "ids")
        ]
        splits[split] = Samples(*joined)[np.argsort(joined[2])]
    return splits


def enlarged(images: np.ndarray, size: int) -> np.ndarray:
    """Grey images as data_prep makes them: (n, size, size, 1)."""
    pictures = ArrayPictures(images)
    return np.stack([pictures.pixels(row, size, 1, "stretch") for row in range(len(images))])


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def start(*words: object, **options: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "data_prep", *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


def save_one_shard(folder: Path) -> Path:
    """A set of the ten digits that no two ranks can share."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 32, 32), np.uint8)
    images = Dataset(pixels, np.arange(20) % 10, shards=1)
    images.save(folder, images)
    return folder


def held_out_beside(data: Path, folder: Path, **fields: object) -> Path:
    """A copy of a set in which the test images are there once more, as held-out images."""
    folder.mkdir()
    for path in data.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
        if path.name.startswith("test-"):
            copy = folder / path.name.replace("test-", "held-out-")
            copy.write_bytes(path.read_bytes())
            say(copy, split="held-out")
    for path in folder.iterdir():
        say(path, held_out_count=open_set(data).test_count, **fields)
    return folder
