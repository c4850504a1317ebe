"""Checksums of the flat vectors, by which a flipped bit is noticed in the step it happens in.

A vector is cut into cells, at each grain of the exchange and near each layer's edges, whatever
the ranks. A cell's checksum is the sum of its 64-bit words modulo 2**64: any one flipped bit
changes it, adding it up over cells gives that of a layer, and it costs one pass over memory
that is in the cache anyway.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from dist_vgg.base.errors import RankError

PARAMETERS, GRADIENT = "parameters", "summed gradient"  # names of vectors


class Cells:
    """Where a vector of `count` float32 numbers is cut: every `grain` of them, and at `edges`."""

    def __init__(self, count: int, grain: int, edges: Iterable[int] = ()) -> None:
        # A cell begins at a whole word, so an odd edge's last number counts for the next layer.
        starts = {0, *range(0, count, grain), *(edge & ~1 for edge in edges)}
        self.starts = np.array(sorted(start for start in starts if start < count), np.int64)
        self.count = count
        self._known: dict[tuple[int, int], tuple[slice, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self.starts)

    def within(self, lo: int, hi: int) -> slice:
        """The cells that make up [lo, hi); both begin a grain, or hi is the end."""
        return self._place(lo, hi)[0]

    def _place(self, lo: int, hi: int) -> tuple[slice, np.ndarray]:
        """The cells in [lo, hi), and where in it each begins, in words of 64 bits."""
        if (lo, hi) not in self._known:
            first, last = np.searchsorted(self.starts, (lo, hi))
            offsets = (self.starts[first:last] - lo) // 2
            self._known[lo, hi] = slice(int(first), int(last)), offsets
        return self._known[lo, hi]

    def sums(self, vector: np.ndarray, lo: int, hi: int) -> np.ndarray:
        """Checksums of the cells in [lo, hi): uint64."""
        part = vector[lo:hi]
        if len(part) % 2:
            part = np.append(part, np.float32(0))
        return np.add.reduceat(part.view(np.uint64), self._place(lo, hi)[1])

    def at(self, number: int) -> int:
        """The cell that holds a place of the vector."""
        return int(np.searchsorted(self.starts, number, side="right")) - 1


def whole_sum(vector: np.ndarray) -> int:
    """The sum of all a vector's cells, however it is cut."""
    return int(Cells(len(vector), len(vector)).sums(vector, 0, len(vector))[0])


def parameter_digest(params: np.ndarray) -> str:
    """SHA-256 of a flat vector of parameters, little-endian float32."""
    return hashlib.sha256(np.ascontiguousarray(params, "<f4").data).hexdigest()


class Audit:
    """A table of checksums for each vector, and the check that no cell has changed.

    Every rank notes and checks the pieces that it owns, in tables that its node's ranks share.
    """

    def __init__(
        self,
        cells: Cells,
        names: Sequence[str],
        tables: np.ndarray,
        where: str,
        buckets: Sequence[tuple[int, int]],
    ) -> None:
        """`tables` is (names, cells) uint64, all zero.

        `where` names the rank and host for a message, which also says in which bucket a cell is.
        """
        self.cells, self.tables = cells, tables
        self.rows = dict(zip(names, tables, strict=True))
        self.step = 0  # the one being computed, for messages
        self._where, self._buckets = where, buckets

    def note(self, name: str, vector: np.ndarray, lo: int, hi: int) -> None:
        """Take the vector's cells in [lo, hi) as they are now."""
        if lo < hi:
            self.rows[name][self.cells.within(lo, hi)] = self.cells.sums(vector, lo, hi)

    def check(self, name: str, vector: np.ndarray, lo: int, hi: int) -> None:
        """Raise RankError where a cell in [lo, hi) is not what was noted."""
        if lo >= hi:
            return
        cells = self.cells.within(lo, hi)
        wrong = self.rows[name][cells] != self.cells.sums(vector, lo, hi)
        if wrong.any():
            place = int(self.cells.starts[cells.start + int(wrong.argmax())])
            bucket = sum(place >= end for _, end in self._buckets)
            raise RankError(
                f"step {self.step}: the {name} on {self._where} changed in memory, in bucket "
                f"{bucket} near number {place:,} (a flipped bit: faulty memory, or "
                "machines that compute differently); go on from the last good state with --resume",
                RankError.CORRUPT,
            )

    def check_whole(self, name: str, expected: int) -> None:
        """Raise RankError where all of a vector's cells do not add up to a `whole_sum`."""
        if int(self.rows[name].sum(dtype=np.uint64)) != expected:
            raise RankError(
                f"the {name} on {self._where} changed in memory before the first step (a flipped "
                "bit: faulty memory); go on from the last good state with --resume",
                RankError.CORRUPT,
            )

    def by_layer(self, name: str, layers: Mapping[str, int]) -> dict[str, str]:
        """Checksums of a vector's layers, folded to 32 bits; `layers` says where each begins."""
        firsts = [self.cells.at(start) for start in layers.values()]
        # A layer that begins at an odd number begins with the cell that holds it.
        sums = np.add.reduceat(self.rows[name], firsts)
        folded = (sums ^ (sums >> np.uint64(32))) & np.uint64(0xFFFFFFFF)
        return {layer: f"{int(sum_):08x}" for layer, sum_ in zip(layers, folded, strict=True)}

    def digest(self, name: str) -> str:
        """One short name for all of a vector's cells: 16 hexadecimal digits."""
        return hashlib.sha256(self.rows[name].astype("<u8").tobytes()).hexdigest()[:16]
