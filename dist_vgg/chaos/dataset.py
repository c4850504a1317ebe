"""The data that trials train on: eight shards of random images that a network can learn."""

from pathlib import Path

import numpy as np

from dist_vgg.chaos.plan import Scale
from dist_vgg.data.samples import Samples, pixel_statistics, set_digest
from dist_vgg.data.set_info import SetInfo
from dist_vgg.data.shards import write_shard

SHARDS = 8


def make_data(folder: Path, scale: Scale) -> None:
    """Write the shards: each image has a bright bar, whose height shows the label."""
    rng = np.random.default_rng(0)
    size, step = scale.size, scale.size // 11
    splits = {}
    for split, count in (("train", scale.images), ("test", SHARDS)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        pixels = rng.integers(0, 60, (count, size, size, 1), np.uint8)
        for image, label in zip(pixels, labels, strict=True):
            image[step * label : step * (label + 2)] += 150
        splits[split] = Samples(pixels, labels, np.arange(count))
    mean, std = pixel_statistics(splits["train"].pixels)
    info = SetInfo(
        source="mnist",  # of any other source each run would warn
        request="{}",
        shards=SHARDS,
        size=size,
        channels=1,
        classes=10,
        mean=mean,
        std=std,
        zoom="none",
        seed=0,
        train_count=scale.images,
        test_count=SHARDS,
        digest=set_digest(splits),
    )
    folder.mkdir(parents=True)
    for split, samples in splits.items():
        for index in range(SHARDS):
            write_shard(folder, split, index, samples[np.arange(index, len(samples), SHARDS)], info)
