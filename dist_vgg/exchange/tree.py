"""The order in which gradients are added: one fixed binary tree over the shards.

Float addition is not associative, so a sum has the same bits at any number of ranks only where
its brackets are the same. Here they follow from the number of shards alone: 8 shards make
(((0+1)+(2+3))+((4+5)+(6+7))), whoever hosts which. The tree also keeps rounding errors small:
they grow with log2(shards) instead of the number of shards (pairwise summation; Higham, "The
accuracy of floating point summation", SIAM J. Sci. Comput. 14, 1993).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")
Block = tuple[int, int]  # (level, i): the sum over shards i*2**level ... (i+1)*2**level - 1

TILE_FLOATS = 1 << 15  # numbers to add at a time: eight such slices fit a core's L2 cache


def fold(blocks: dict[Block, T], shards: int, add: Callable[[T, T], object]) -> dict[Block, T]:
    """Add siblings into their parents, `add(left, right)`, until no sibling is left.

    Where the number of shards is no power of two, the last of them have parents with one child.
    What is added to what depends on `shards` alone; the blocks may arrive in any portions.
    """
    for level in range((shards - 1).bit_length()):
        for i in sorted(i for lv, i in blocks if lv == level and i % 2 == 0):
            right = (level, i + 1)
            has_right = (i + 1) << level < shards
            if has_right and right not in blocks:
                continue
            left = blocks.pop((level, i))
            if has_right:
                add(left, blocks.pop(right))
            blocks[level + 1, i // 2] = left
    return blocks


class LocalTree:
    """Sums one rank's micro-batches as they come, in as few vectors as the tree allows.

    A rank that hosts n neighbouring shards needs no more than 2 log2(n) + 1 vectors, not n, and
    log2(n) + 1 where they make a whole branch.
    """

    def __init__(self, shards: int) -> None:
        self.shards = shards
        self.vectors = 0  # needed so far
        self.clear()

    def clear(self) -> None:
        """Begin a new step."""
        self.blocks: dict[Block, int] = {}  # finished sums, and the vectors that hold them
        self._free = list(range(self.vectors))

    def next(self) -> int:
        """The vector to put the next micro-batch's gradient in."""
        if not self._free:
            self._free.append(self.vectors)
            self.vectors += 1
        return self._free[0]

    def add(self, branch: Sequence[int], add: Callable[[int, int], object]) -> None:
        """Take the vector handed out last as this branch's gradient, and add what can be added."""
        self.leave(branch)

        def add_and_free(left: int, right: int) -> None:
            add(left, right)
            self._free.insert(0, right)

        fold(self.blocks, self.shards, add_and_free)

    def leave(self, branch: Sequence[int]) -> None:
        """Take it likewise, but add nothing: the exchange adds all that remains in one pass."""
        level = (len(branch) - 1).bit_length()
        self.blocks[level, branch[0] >> level] = self._free.pop(0)


def branches(mine: Sequence[int], together: int = 1) -> Sequence[Sequence[int]]:
    """A rank's shards in whole branches of the tree of at most so many shards: 0..3, 4 5, 6."""
    found: list[Sequence[int]] = []
    while mine:
        size = 1
        while mine[0] % (2 * size) == 0 and 2 * size <= min(together, len(mine)):
            size *= 2
        found.append(mine[:size])
        mine = mine[size:]
    return found


def plan(mine: Sequence[Sequence[int]], shards: int) -> LocalTree:
    """The tree of a rank with these branches after a step: its vectors, and where its sums are."""
    tree = LocalTree(shards)
    for branch in mine[:-1]:
        tree.next()
        tree.add(branch, lambda left, right: None)
    tree.next()
    tree.leave(mine[-1])
    return tree


def remaining(blocks: Iterable[Block], shards: int) -> list[Block]:
    """The sums that are left of these blocks when all siblings among them have been added."""
    return list(fold(dict.fromkeys(blocks), shards, lambda left, right: None))


def first(blocks: Iterable[Block]) -> Block:
    """The block of the lowest shard: where `sum_along_tree` leaves the sum."""
    return min(blocks, key=lambda block: block[1] << block[0])


def sum_along_tree(blocks: dict[Block, np.ndarray], shards: int) -> np.ndarray:
    """Add arrays in place along the tree; returns the first, in which the sum then lies."""
    target = blocks[first(blocks)]
    for lo in range(0, len(target), TILE_FLOATS):
        part = {block: array[lo : lo + TILE_FLOATS] for block, array in blocks.items()}
        fold(part, shards, lambda left, right: np.add(left, right, out=left))
    return target
