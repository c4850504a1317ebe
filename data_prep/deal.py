"""A deal decides which samples are used, in which order, and which shard each belongs to.

Everything here works on the labels of one split and gives rows of them.
"""

import numpy as np

from dist_vgg.base.random import generator


def shuffled(count: int, seed: int, split: str) -> np.ndarray:
    """Give the rows 0..count-1 of a split in the order of its one shuffle."""
    return generator(seed, f"shuffle/{split}").permutation(count)


def quotas(available: np.ndarray, limit: int) -> np.ndarray:
    """Share `limit` out among the classes, as equally as the `available` samples allow."""
    quota = np.zeros_like(available)
    while left := min(limit, int(available.sum())) - int(quota.sum()):
        # Classes that still have samples; where fewer are left to share, the first ones.
        takers = np.flatnonzero(quota < available)[:left]
        quota[takers] = np.minimum(quota[takers] + left // len(takers), available[takers])
    return quota


def choose(labels: np.ndarray, limit: int) -> np.ndarray:
    """Give the first rows of each class, evenly over the classes, `limit` in all, in order."""
    quota = quotas(np.bincount(labels), limit)
    rows = [np.flatnonzero(labels == label)[:count] for label, count in enumerate(quota)]
    return np.sort(np.concatenate(rows))


def deal(labels: np.ndarray, shards: int) -> list[np.ndarray]:
    """Deal the rows out to the shards, each in order.

    Shards differ by at most one in size, and by at most one in the samples of any class.
    """
    # Sorted by class, then dealt like cards: neighbours go to different shards.
    by_class = np.argsort(labels, kind="stable")
    return [np.sort(by_class[shard::shards]) for shard in range(shards)]
