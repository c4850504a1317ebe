"""Which samples a rank holds, and which of them each shard contributes to a step."""

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from dist_vgg.base.command_line import plural
from dist_vgg.base.errors import RankError, UserError
from dist_vgg.base.random import generator
from dist_vgg.data.dataset import load_shard
from dist_vgg.data.samples import Samples
from dist_vgg.data.set_info import SetInfo
from dist_vgg.data.shards import hosted, shard_limit

# Multiplication by an odd number modulo 2**64 loses no bit.
ODD = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)


def load_local(
    folder: str | Path,
    info: SetInfo,
    split: str,
    limit: int,
    ranks: int,
    rank: int,
    on_demand: bool = False,
) -> dict[int, Samples]:
    """Read the shards of a split that a rank hosts; `limit` counts the samples of all shards.

    Pixels `on_demand` stay in the files until they are needed.

    Raises UserError where there are more ranks than shards, or a shard cannot be used.
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
        samples = load_shard(folder, split, index, info, on_demand)
        shards[index] = samples.first(shard_limit(limit, info.shards, index))
    return shards


def row_sums(pixels: np.ndarray, labels: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """A checksum of each sample, (n,) uint64; any single flipped bit changes it.

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

        With `where`, which names this rank and its host, every sample in memory is checked for
        flipped bits whenever it is used; those read on demand are compared with the file's.
        """
        self._shards, self._where = shards, where
        kept = {i: samples for i, samples in shards.items() if not samples.on_demand}
        self._checksums = {i: _checksums(samples) for i, samples in kept.items()} if where else {}
        self._counts = counts
        self._micro_batch = micro_batch
        self._seed = seed
        self._orders: dict[tuple[int, int], np.ndarray] = {}
        self.steps_per_epoch = -(-int(counts.max()) // self._micro_batch)

    @property
    def on_demand(self) -> bool:
        """Whether images are read from files when they are needed."""
        return any(samples.on_demand for samples in self._shards.values())

    @property
    def samples(self) -> int:
        """Number of samples in an epoch: those of all shards."""
        return int(self._counts.sum())

    def position(self, step: int) -> tuple[int, int]:
        """The epoch of a step, and the step's number within it; both count from 0."""
        return divmod(step, self.steps_per_epoch)

    def global_size(self, step: int) -> int:
        """Number of samples in the global batch: the micro-batches of all shards."""
        return int(self.sizes(step).sum())

    def sizes(self, step: int) -> np.ndarray:
        """Number of samples in the micro-batch of each shard, (shards,) int64."""
        _, index = self.position(step)
        return np.clip(self._counts - index * self._micro_batch, 0, self._micro_batch)

    def micro_batch(self, shard: int, step: int) -> Samples:
        """The samples that a shard contributes to a step; none once the shard has run out.

        Raises RankError where a sample has changed in memory since it was read.
        """
        epoch, index = self.position(step)
        if (shard, epoch) not in self._orders:
            self._orders = {k: v for k, v in self._orders.items() if k[0] != shard}
            shuffle = generator(self._seed, "order", epoch, shard)
            self._orders[shard, epoch] = shuffle.permutation(len(self._shards[shard]))
        first = index * self._micro_batch
        rows = self._orders[shard, epoch][first : first + self._micro_batch]
        samples = self._shards[shard][rows]
        if shard in self._checksums:
            wrong = _checksums(samples) != self._checksums[shard][rows]
            if wrong.any():
                raise RankError(
                    f"step {step + 1}: sample {samples.ids[wrong.argmax()]} of shard {shard} on "
                    f"{self._where} changed in memory (a flipped bit: faulty memory); go on from "
                    "the last good state with --resume",
                    RankError.CORRUPT,
                )
        return samples


Place = tuple[Sequence[int], int]  # shards, and a step


class Prefetcher:
    """Reads the next micro-batch in a thread while the network computes on the current one."""

    def __init__(self, read: Callable[[Sequence[int], int], Any]) -> None:
        """`read(shards, step)` runs in the thread only."""
        self._read = read
        self._thread = ThreadPoolExecutor(1, "reader")
        self._ahead: tuple[Place, Future[Any]] | None = None  # what is read, and its result

    def __call__(self, shards: Sequence[int], step: int, then: Place | None = None) -> Any:
        """The result of `read(shards, step)`, or its exception; starts reading `then` meanwhile."""
        wanted = shards, step
        if self._ahead is None or self._ahead[0] != wanted:
            self._ahead = wanted, self._thread.submit(self._read, *wanted)
        found = self._ahead[1].result()
        self._ahead = (then, self._thread.submit(self._read, *then)) if then else None
        return found


def _checksums(samples: Samples) -> np.ndarray:
    return row_sums(samples.pixels, samples.labels, samples.ids)
