"""The partition of the flat vector: grains, buckets of grains, and the slices that a rank owns.

Each rank updates only what it owns and keeps optimizer state only for that: stage 1 of ZeRO
(Rajbhandari et al., "ZeRO: memory optimizations toward training trillion parameter models",
SC'20). Ranks own a piece of every bucket, so that all of them take part in the exchange of each
bucket as soon as backward has finished it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dist_vgg.kernels.arithmetic import NUMPY, Arithmetic

Slice = tuple[int, int]  # (lo, hi) of the flat vector

BUCKET_GRAINS = 256
# Backward finishes the first layers last, and forward needs them first: short buckets of their own
# keep both from waiting long.
FIRST_GRAINS = (0, 16, 32, 64, 128)


@dataclass(frozen=True)
class Partition:
    """How a vector of `count` numbers is cut for so many `ranks`.

    Grains depend on `count` alone, and every slice begins and ends with one, so a sum over each
    grain (the norm's, a checksum's) is the same at any number of ranks.

    Where gradients travel as factors, a bucket begins at the `tail` that they have; `nodes` are
    the ranks of each node, where every node owns the whole tail and its ranks share it out.
    """

    count: int
    ranks: int
    tail_from: int | None = None
    nodes: Sequence[Sequence[int]] = ()

    @property
    def tail(self) -> int:
        """Where the tail begins, at a grain; `count` where there is none."""
        if self.tail_from is None:
            return self.count
        return min(-(-self.tail_from // self.grain) * self.grain, self.count)

    @property
    def grain(self) -> int:
        """Numbers in a grain: 16,384 for 40 million, 256 for the narrowest networks."""
        return max(256, 1 << max(0, self.count.bit_length() - 12))

    @property
    def grains(self) -> int:
        return -(-self.count // self.grain)

    @property
    def buckets(self) -> list[Slice]:
        """Each bucket, 256 grains long but for the first ones, and the last ahead of a tail."""
        size, tail = BUCKET_GRAINS * self.grain, self.tail
        firsts = [grains * self.grain for grains in FIRST_GRAINS]
        ahead = [start for start in (*firsts, *range(size, tail, size)) if start < tail]
        return list(pairwise([*ahead, *range(tail, self.count, size), self.count]))

    def everywhere(self, bucket: Slice) -> bool:
        """Whether every node owns a bucket."""
        return bool(self.nodes) and bucket[0] >= self.tail

    def piece(self, bucket: Slice, rank: int) -> Slice:
        """A rank's piece of a bucket."""
        lo, hi = bucket
        grains = -(-(hi - lo) // self.grain)
        sharing: Sequence[int] = range(self.ranks)
        if self.everywhere(bucket):
            sharing = next(ranks for ranks in self.nodes if rank in ranks)
        place = sharing.index(rank)
        first, last = (grains * r // len(sharing) for r in (place, place + 1))
        return min(lo + first * self.grain, hi), min(lo + last * self.grain, hi)

    def answered(self, bucket: Slice, rank: int) -> Slice:
        """Its piece, or what is left of it where several nodes own the same: one answers for it.

        These pieces tile the bucket.
        """
        lo, hi = self.piece(bucket, rank)
        return (lo, lo) if self.everywhere(bucket) and rank not in self.nodes[0] else (lo, hi)

    def sizes(self, bucket: Slice) -> list[int]:
        """Numbers of a bucket that each rank answers for."""
        return [hi - lo for lo, hi in (self.answered(bucket, rank) for rank in range(self.ranks))]

    def owned(self, rank: int) -> list[Slice]:
        """The slices that a rank owns: its piece of every bucket, in order."""
        return [self.piece(bucket, rank) for bucket in self.buckets]

    def answers(self, rank: int) -> list[Slice]:
        """The slices that a rank answers for: all it owns, but for a tail that others own, too."""
        return [self.answered(bucket, rank) for bucket in self.buckets]

    def owned_by(self, ranks: Iterable[int]) -> list[Slice]:
        """The slices that some ranks own together, in order; neighbours are joined."""
        ranks = list(ranks)
        joined: list[Slice] = []
        for bucket in self.buckets:
            for lo, hi in (self.piece(bucket, rank) for rank in ranks):
                if joined and joined[-1][1] == lo:
                    joined[-1] = (joined[-1][0], hi)
                elif lo < hi:
                    joined.append((lo, hi))
        return joined

    def squares(
        self, total: np.ndarray, owned: Iterable[Slice], arithmetic: Arithmetic = NUMPY
    ) -> np.ndarray:
        """Sum of squares of each grain of a vector, float64; zeros where not `owned`.

        Added up over ranks and then over grains, it is the squared norm of the whole vector, in
        an order that depends on no rank.
        """
        squares = np.zeros(self.grains)
        for lo, hi in owned:
            grains = slice(lo // self.grain, -(-hi // self.grain))
            squares[grains] = arithmetic.squares(total[lo:hi], self.grain)
        return squares
