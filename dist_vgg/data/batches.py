"""Which samples a rank has, and which of them each shard brings to which step."""

import math
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from dist_vgg.base.command_line import plural
from dist_vgg.base.errors import RankError, UserError
from dist_vgg.base.random import generator
from dist_vgg.data.shards import Samples, SetInfo, hosted, load_shard, part_of

# To multiply by an odd number modulo 2**64 loses no bit.
ODD = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)


def load_local(
    folder: str | Path, info: SetInfo, split: str, limit: int, ranks: int, rank: int
) -> dict[int, Samples]:
    """The shards of a split that a rank hosts, cut to a limit on all of them together.

    Raises UserError where there are more ranks than shards, or a shard can't be used.
    """
    if ranks > info.shards:
        raise UserError(
            f"{ranks} ranks for {plural(info.shards, 'shard')}: a rank needs a shard, so "
            f"start at most {plural(info.shards, 'rank')}, or prepare more with: python -m "
            f"data_prep --out {folder} --shards {ranks} --overwrite, and the other options "
            "it was made with"
        )
    shards = {}
    for index in hosted(info.shards, ranks, rank):
        samples = load_shard(folder, split, index, info)
        shards[index] = samples[: part_of(limit, info.shards, index)]
    return shards


def row_sums(pixels: np.ndarray, labels: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """A checksum of each sample that any one flipped bit changes: (n,) uint64.

    `pixels` is (n, ...) uint8, `labels` and `ids` are (n,).
    """
    rows = pixels.reshape(len(pixels), math.prod(pixels.shape[1:]))
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 8))) if rows.shape[1] % 8 else rows
    sums = np.ascontiguousarray(rows).view(np.uint64).sum(axis=1, dtype=np.uint64)
    return sums ^ labels.astype(np.uint64) * ODD[0] ^ ids.astype(np.uint64) * ODD[1]


class Batches:
    """The order of a run's samples, drawn for each shard and epoch from the seed alone."""

    def __init__(
        self,
        shards: Mapping[int, Samples],
        counts: np.ndarray,
        micro_batch: int,
        seed: int,
        where: str = "",
    ) -> None:
        """`shards` are those hosted here, `counts` the number of samples of every shard.

        With `where`, a rank and its host for a message, a sample in memory is to stay as it is.
        """
        self._shards, self._where = shards, where
        self._sums = {index: _sums(samples) for index, samples in shards.items()} if where else {}
        self._counts = counts
        self._size = micro_batch
        self._seed = seed
        self._orders: dict[tuple[int, int], np.ndarray] = {}
        self.steps_per_epoch = -(-int(counts.max()) // self._size)

    @property
    def samples(self) -> int:
        """Samples of all shards together: an epoch."""
        return int(self._counts.sum())

    def position(self, step: int) -> tuple[int, int]:
        """The epoch of a step, and its number within the epoch; both from 0."""
        return divmod(step, self.steps_per_epoch)

    def global_size(self, step: int) -> int:
        """Samples in the micro-batches of all shards together."""
        _, index = self.position(step)
        return int(np.clip(self._counts - index * self._size, 0, self._size).sum())

    def micro_batch(self, shard: int, step: int) -> Samples:
        """The samples of one shard for one step; none where the shard has run out.

        Raises RankError where one of them is no longer what was read.
        """
        epoch, index = self.position(step)
        if (shard, epoch) not in self._orders:
            self._orders = {k: v for k, v in self._orders.items() if k[0] != shard}
            shuffle = generator(self._seed, "order", epoch, shard)
            self._orders[shard, epoch] = shuffle.permutation(len(self._shards[shard]))
        rows = self._orders[shard, epoch][index * self._size : (index + 1) * self._size]
        samples = self._shards[shard][rows]
        if self._sums:
            wrong = _sums(samples) != self._sums[shard][rows]
            if wrong.any():
                raise RankError(
                    f"step {step + 1}: sample {samples.ids[wrong.argmax()]} of shard {shard} on "
                    f"{self._where} changed in memory (a flipped bit: faulty memory); go on from "
                    "the last good state with --resume",
                    RankError.CORRUPT,
                )
        return samples


class Prefetcher:
    """A thread that reads the next micro-batch while the network computes on this one."""

    def __init__(self, read: Callable[[int, int], Any]) -> None:
        """`read` gives what belongs to a shard and a step; it is called in the thread only."""
        self._read = read
        self._thread = ThreadPoolExecutor(1, "reader")
        self._next: tuple[tuple[int, int], Future[Any]] | None = None

    def __call__(self, shard: int, step: int, then: tuple[int, int] | None = None) -> Any:
        """What was read for a shard and step, or what reading raised; begin with `then`."""
        place = shard, step
        if self._next is None or self._next[0] != place:
            self._next = place, self._thread.submit(self._read, *place)
        found = self._next[1].result()
        self._next = (then, self._thread.submit(self._read, *then)) if then else None
        return found


def _sums(samples: Samples) -> np.ndarray:
    return row_sums(samples.pixels, samples.labels, samples.ids)
