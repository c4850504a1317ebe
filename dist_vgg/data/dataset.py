"""A data set is a folder of shards: opened, read shard by shard, and verified as a whole."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dist_vgg.base.errors import UserError
from dist_vgg.base.machine import physical_memory
from dist_vgg.data.samples import Samples, joined, pixel_statistics, set_digest
from dist_vgg.data.set_info import SetInfo
from dist_vgg.data.shards import find_shards, how_to_mend, read_shard, shard_path


def open_set(folder: str | Path, whole: bool = True) -> SetInfo:
    """What the shards in a folder say of their data set.

    Of a `whole` set all shards are there and agree. Else one that is there speaks for all, since
    a host needs no others than its ranks host; `load_shard` compares each of these with it.

    Raises UserError where there are no shards, one is missing or damaged, or shards of
    different sets lie together.
    """
    folder = Path(folder)
    found = _shards_in(folder)
    first = found[0]
    info, _ = read_shard(first, with_samples=False)
    names = [
        shard_path(folder, split, index, info.shards)
        for split in info.splits
        for index in range(info.shards)
    ]
    ours = set(names)
    for path in found[1:]:
        if path not in ours or (whole and read_shard(path, with_samples=False)[0] != info):
            raise UserError(
                f"{path} belongs to another data set than {first.name}; {how_to_mend(folder)}"
            )
    missing = sorted(ours - set(found)) if whole else []
    if missing:
        raise _missing(missing[0])
    return info


def _missing(path: Path) -> UserError:
    return UserError(f"shard {path} is missing; {how_to_mend(path.parent)}")


def check_split(info: SetInfo, split: str, folder: str | Path) -> None:
    """Raise UserError where a set lacks a split."""
    if split not in info.splits:
        raise UserError(
            f"{folder} has no {split} images, only {' and '.join(info.splits)}; prepare it with: "
            "python -m data_prep --held-out N"
        )


def _shards_in(folder: Path) -> list[Path]:
    """The shards in a folder; UserError where it cannot be read or has none."""
    if folder.is_file():
        raise UserError(f"{folder} is a file; name a folder of shards")
    if not folder.is_dir():
        raise UserError(
            f"no data folder {folder}; make one with: python -m data_prep --out {folder}"
        )
    if not os.access(folder, os.R_OK | os.X_OK):
        raise UserError(f"can't read the data folder {folder}: {os.strerror(errno.EACCES)}")
    paths = find_shards(folder)
    if not paths:
        raise UserError(
            f"no shards in {folder}; make them with: python -m data_prep --out {folder}"
        )
    return paths


def load_shard(
    folder: str | Path, split: str, index: int, info: SetInfo, on_demand: bool = False
) -> Samples:
    """Read one shard into memory, after verifying its digest; pixels perhaps only `on_demand`.

    Raises UserError for a missing or damaged file, another data set, or a label outside the
    classes.
    """
    folder = Path(folder)
    path = shard_path(folder, split, index, info.shards)
    if not path.exists():
        raise _missing(path)
    found, samples = read_shard(path, on_demand=on_demand)
    mend = how_to_mend(folder)
    if found != info:
        raise UserError(f"{path} belongs to another data set than its neighbours; {mend}")
    shape = (len(samples), info.size, info.size, info.channels)
    if samples.pixels.shape != shape or samples.labels.shape != shape[:1]:
        raise UserError(f"shard {path} has arrays of unequal length; {mend}")
    if len(samples) and samples.labels.max() >= info.classes:
        row = int(samples.labels.argmax())
        raise UserError(
            f"shard {path}: sample {samples.ids[row]} has label {samples.labels[row]}, outside "
            f"the classes 0..{info.classes - 1}; {mend}"
        )
    return samples


def check_set(folder: Path) -> Iterator[str]:
    """Verify a whole data set; yields a line for each shard that is read, and one at the end.

    Raises UserError at the first fault.
    """
    info = open_set(folder)
    total = sum(map(info.count, info.splits)) * info.size**2 * info.channels
    on_demand = total > physical_memory() / 2
    splits = {}
    for split in info.splits:
        parts = []
        for index in range(info.shards):
            parts.append(load_shard(folder, split, index, info, on_demand))
            yield f"{shard_path(folder, split, index, info.shards).name}: {len(parts[-1])} samples"
        samples = joined(parts)
        distinct = len(np.unique(samples.ids))
        if distinct != len(samples) or len(samples) != info.count(split):
            raise UserError(
                f"the {split} shards in {folder} hold {len(samples)} samples, {distinct} of them "
                f"distinct, instead of {info.count(split)}; {how_to_mend(folder)}"
            )
        splits[split] = samples
    together = len(info.mean) == 1
    statistics = pixel_statistics(splits["train"].pixels, together)
    if set_digest(splits) != info.digest or statistics != (info.mean, info.std):
        raise UserError(
            f"the content of {folder} is not what its shards were written with; "
            f"{how_to_mend(folder)}"
        )
    yield f"SHA-256 {info.digest}"
