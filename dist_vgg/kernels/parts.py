"""Samples in parts: the micro-batches of several shards, which run together.

The gradients of their parameters are added along a binary tree over the parts: ((0+1)+(2+3))+4, the
order in which they would be added if each had run alone, where the parts are a branch of the tree
over all shards.
"""

from collections.abc import Callable, Sequence

import numpy as np


def bounds(counts: Sequence[int], n: int) -> np.ndarray:
    """Where each part of n samples begins, and the end of the last; no `counts` mean one part."""
    return np.concatenate([[0], np.cumsum(counts)]) if len(counts) else np.array([0, n])


def tree_sum(
    write: Callable[..., object], counts: Sequence[int], n: int, *totals: np.ndarray
) -> None:
    """totals = the sum along the tree of what `write(part, *arrays)` writes for each slice."""
    stack: list[tuple[np.ndarray, ...]] = []
    edges = bounds(counts, n)
    for done, part in enumerate(map(slice, edges[:-1], edges[1:]), start=1):
        arrays = tuple(np.empty_like(total) for total in totals) if stack else totals
        if part.start < part.stop:
            write(part, *arrays)
        else:
            for array in arrays:
                array[:] = 0
        stack.append(arrays)
        last = done == len(edges) - 1
        while len(stack) > 1 and (done % 2 == 0 or last):
            for left, right in zip(stack[-2], stack.pop(), strict=True):
                left += right
            done //= 2
