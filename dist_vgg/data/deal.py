"""The deal: the order of the samples, a balanced choice of them, and the shard of each.

All functions work on the labels of one split and return row numbers.
"""

import numpy as np

from dist_vgg.base.random import generator


def shuffled(count: int, seed: int, split: str) -> np.ndarray:
    """The rows 0..count-1 of a split in the order of its one shuffle."""
    return generator(seed, f"shuffle/{split}").permutation(count)


def quotas(available: np.ndarray, limit: int) -> np.ndarray:
    """Divide `limit` among the classes, as equally as the `available` samples allow."""
    quota = np.zeros_like(available)
    while left := min(limit, int(available.sum())) - int(quota.sum()):
        # The classes that still have samples; if fewer samples are left to give, the first ones.
        takers = np.flatnonzero(quota < available)[:left]
        quota[takers] = np.minimum(quota[takers] + left // len(takers), available[takers])
    return quota


def choose(labels: np.ndarray, limit: int) -> np.ndarray:
    """The first rows of each class, equally many of each, `limit` in all, in order."""
    quota = quotas(np.bincount(labels), limit)
    rows = [np.flatnonzero(labels == label)[:count] for label, count in enumerate(quota)]
    return np.sort(np.concatenate(rows))


def deal(labels: np.ndarray, shards: int) -> list[np.ndarray]:
    """The rows of each shard, in order.

    Shards differ by at most one sample in size, and by at most one in any class.
    """
    # Sorted by class, then dealt like cards: neighbours go to different shards.
    by_class = np.argsort(labels, kind="stable")
    return [np.sort(by_class[shard::shards]) for shard in range(shards)]
