"""A shard is one HDF5 file of labelled images and the logical worker that owns it.

A data set is a folder of `train-00000-of-00008.h5` ... and `test-00000-of-00008.h5` ....
Each file holds

    pixels   (n, size, size, channels) uint8    gzip, in chunks of rows
    labels   (n,) uint8
    ids      (n,) int64                         index in the original data set

and says in its header which data set it is a part of (`SetInfo`), so that shards of
different sets can never be mixed silently. A digest is over all (see files).
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dist_vgg.base import bounds
from dist_vgg.base.bounds import MAX_SHARDS, Rule, integer, number, sha256, text
from dist_vgg.base.errors import UserError
from dist_vgg.base.files import SCHEMA as SCHEMA  # data_prep has it in the request
from dist_vgg.base.files import NotWhole, open_hdf5, whole_hdf5

SPLITS = ("train", "test")
HELD_OUT = "held_out"  # in the request of a set whose test images are from the training set
MAX_BYTES = 768 << 20  # of a shard's pixels; all of MNIST at 64x64 is a third of it
MAX_SAMPLES = MAX_BYTES // 32**2  # 32 pixels are the least side that VGG16 takes
MOST = 2**31 - 1  # samples in a split


@dataclass(frozen=True)
class SetInfo:
    """What every shard of a data set says about the whole set."""

    source: str  # "mnist", or "digits" for scikit-learn's stand-in
    request: str  # the preprocessing that made it, as JSON: equal request, equal shards
    shards: int  # number of shards in each split
    size: int  # side of an image, in pixels
    channels: int
    classes: int
    mean: float  # of the training set's pixels, 0..255, all of them
    std: float  # standard deviation, likewise
    zoom: str  # the filter that enlarged the images
    seed: int  # of the shuffle
    train_count: int
    test_count: int
    digest: str  # SHA-256 of the set, see `set_digest`

    def count(self, split: str) -> int:
        """Number of samples in a split."""
        return self.train_count if split == "train" else self.test_count

    def facts(self) -> dict[str, object]:
        """What must be the same on every host, in words: the images, and how they were dealt."""
        return {
            "the data set": self.digest[:16],
            "the number of shards": self.shards,
            "the request to data_prep": self.request,
        }

    @property
    def held_out(self) -> bool:
        """Whether the split "test" has images of the training set, to choose a recipe by."""
        try:
            return HELD_OUT in json.loads(self.request)
        except (ValueError, TypeError, RecursionError):  # not made by data_prep
            return False

    @property
    def test_name(self) -> str:
        """What the split "test" is to be called."""
        return "held-out training" if self.held_out else "test"


HEADER: dict[str, Rule] = dict(
    split=lambda value: value in SPLITS,
    index=integer(0, MAX_SHARDS - 1),
    source=text,
    request=text,
    shards=integer(1, MAX_SHARDS),
    size=integer(32, bounds.MAX_SIZE),
    channels=integer(1, bounds.MAX_CHANNELS),
    classes=integer(1, bounds.MAX_CLASSES),
    mean=number(0, 255),
    std=number(0, 255, open_low=True),
    zoom=text,
    seed=integer(0, 2**63 - 1),
    train_count=integer(1, MOST),
    test_count=integer(1, MOST),
    digest=sha256,
)


@dataclass(frozen=True)
class Samples:
    """Labelled images: pixels (n, size, size, channels) uint8, labels (n,), ids (n,)."""

    pixels: np.ndarray
    labels: np.ndarray
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: slice | np.ndarray) -> "Samples":
        return Samples(self.pixels[rows], self.labels[rows], self.ids[rows])


def shard_path(folder: Path, split: str, index: int, count: int) -> Path:
    """Where shard `index` of `count` lies."""
    return folder / f"{split}-{index:05d}-of-{count:05d}.h5"


def hosted(shards: int, ranks: int, rank: int) -> range:
    """The contiguous shards that a rank hosts: 8 shards on 3 ranks are 3, 3 and 2."""
    each, more = divmod(shards, ranks)
    first = rank * each + min(rank, more)
    return range(first, first + each + (rank < more))


def part_of(limit: int, shards: int, index: int) -> int | None:
    """How many samples a shard gives to a limit on all of them; None for all, where it is 0."""
    return len(hosted(limit, shards, index)) if limit else None


def find_shards(folder: Path) -> list[Path]:
    """Every file in the folder whose name is that of a shard, of whatever set."""
    return sorted(path for split in SPLITS for path in folder.glob(f"{split}-?????-of-?????.h5"))


def set_digest(splits: Mapping[str, Samples]) -> str:
    """SHA-256 of a data set: its samples in order of split and id, whatever the sharding."""
    digest = hashlib.sha256()
    for split in SPLITS:
        samples = splits[split]
        digest.update(f"{split} {samples.pixels.shape}".encode())
        order = np.argsort(samples.ids, kind="stable")
        digest.update(samples.ids[order].astype("<i8").tobytes())
        digest.update(samples.labels[order].astype("u1").tobytes())
        for row in order:
            digest.update(samples.pixels[row].tobytes())
    return digest.hexdigest()


def pixel_statistics(pixels: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of all pixels, from exact integer sums; units of a pixel."""
    values = np.zeros(256, np.int64)
    for start in range(0, len(pixels), 1024):  # bincount makes int64 of what it counts
        values += np.bincount(pixels[start : start + 1024].reshape(-1), minlength=256)
    total = sum(int(n) for n in values)
    first = sum(value * int(n) for value, n in enumerate(values))
    second = sum(value * value * int(n) for value, n in enumerate(values))
    variance = (total * second - first * first) / (total * total)
    return first / total, variance**0.5


def write_shard(folder: Path, split: str, index: int, samples: Samples, info: SetInfo) -> None:
    """Write one shard, whole or not at all; UserError for more pixels than a reader takes."""
    n, height, width, channels = samples.pixels.shape
    path = shard_path(folder, split, index, info.shards)
    if samples.pixels.nbytes > MAX_BYTES:
        raise UserError(
            f"{path} would hold {samples.pixels.nbytes >> 20:,} MiB of pixels, more than "
            f"{MAX_BYTES >> 20}; prepare more shards with --shards, or smaller images with --size"
        )
    with whole_hdf5(path, "a shard") as file:
        bounds.write_header(file, "shard", dict(split=split, index=index, **vars(info)))
        file.create_dataset(
            "pixels",
            data=samples.pixels,
            # About 64 KB a chunk for MNIST's 64x64: large enough to compress, small to check.
            chunks=(min(n, 16), height, width, channels),
            compression="gzip",
            compression_opts=1,
        )
        file.create_dataset("labels", data=samples.labels, dtype="u1")
        file.create_dataset("ids", data=samples.ids, dtype="<i8")


def open_set(folder: str | Path) -> SetInfo:
    """Read what the folder's shards say of their set, after checking that they all agree.

    Raises UserError where there are no shards, one is missing or damaged, or shards of
    different sets lie together.
    """
    folder = Path(folder)
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
    infos = {path: _read(path, content=False)[0] for path in paths}
    first = infos[paths[0]]
    for path, info in infos.items():
        if info != first:
            raise UserError(
                f"{path} belongs to another data set than {paths[0].name}; {_mend(folder)}"
            )
    for split in SPLITS:
        for index in range(first.shards):
            path = shard_path(folder, split, index, first.shards)
            if path not in infos:
                raise UserError(f"shard {path} is missing; {_mend(folder)}")
    return first


def load_shard(folder: str | Path, split: str, index: int, info: SetInfo) -> Samples:
    """Read one shard into memory, after verifying its digest.

    Raises UserError for a damaged file, another data set, or a label outside the classes.
    """
    folder = Path(folder)
    path = shard_path(folder, split, index, info.shards)
    found, samples = _read(path, content=True)
    if found != info:
        raise UserError(f"{path} belongs to another data set than its neighbours; {_mend(folder)}")
    shape = (len(samples), info.size, info.size, info.channels)
    if samples.pixels.shape != shape or samples.labels.shape != shape[:1]:
        raise UserError(f"shard {path} has arrays of unequal length; {_mend(folder)}")
    if len(samples) and samples.labels.max() >= info.classes:
        row = int(samples.labels.argmax())
        raise UserError(
            f"shard {path}: sample {samples.ids[row]} has label {samples.labels[row]}, outside "
            f"the classes 0..{info.classes - 1}; {_mend(folder)}"
        )
    return samples


def check_set(folder: Path) -> Iterator[str]:
    """Verify a whole data set, yielding a word for each finished shard and one at the end.

    Raises UserError at the first thing that is wrong.
    """
    info = open_set(folder)
    splits = {}
    for split in SPLITS:
        parts = []
        for index in range(info.shards):
            parts.append(load_shard(folder, split, index, info))
            yield f"{shard_path(folder, split, index, info.shards).name}: {len(parts[-1])} samples"
        samples = Samples(
            *(np.concatenate([getattr(part, name) for part in parts])
              for name in ("pixels", "labels", "ids"))
        )  # fmt: skip
        if len(np.unique(samples.ids)) != len(samples) or len(samples) != info.count(split):
            raise UserError(
                f"the {split} shards in {folder} hold {len(samples)} samples, "
                f"{len(np.unique(samples.ids))} of them distinct, instead of {info.count(split)}; "
                f"{_mend(folder)}"
            )
        splits[split] = samples
    if set_digest(splits) != info.digest or pixel_statistics(splits["train"].pixels) != (
        info.mean,
        info.std,
    ):
        raise UserError(
            f"the content of {folder} is not what its shards were written with; {_mend(folder)}"
        )
    yield f"SHA-256 {info.digest}"


def normalise(pixels: np.ndarray, mean: float, std: float) -> np.ndarray:
    """Turn uint8 pixels into float32 of the training set's mean 0 and deviation 1."""
    x = pixels.astype(np.float32)
    x -= np.float32(mean)
    x *= np.float32(1 / std)
    return x


def _read(path: Path, content: bool) -> tuple[SetInfo, Samples]:
    """What one shard says of its set, and its samples, or none of them if not asked for.

    Raises UserError where the file is damaged or misnamed.
    """
    arrays: Any = [np.empty(0)] * 3
    try:
        with open_hdf5(path) as file:
            header = bounds.read_header(file, "shard", HEADER)
            root = bounds.root(file)
            if bounds.members(root) != ["ids", "labels", "pixels"]:
                raise NotWhole("it holds other things than it should")
            if content:
                arrays = [
                    bounds.read_array(root, "pixels", "u1", 4, MAX_BYTES),
                    bounds.read_array(root, "labels", "u1", 1, MAX_SAMPLES),
                    bounds.read_array(root, "ids", "<i8", 1, 8 * MAX_SAMPLES),
                ]
    except bounds.UNREADABLE as error:
        _refuse_unreadable(path, error)
        reason = str(error) if isinstance(error, NotWhole) else "it can't be read"
        raise UserError(f"shard {path} is damaged ({reason}); {_mend(path.parent)}") from error
    split, index = header.pop("split"), header.pop("index")
    info = SetInfo(**header)
    if shard_path(path.parent, split, index, info.shards) != path:
        raise UserError(f"shard {path} says that it is {split} shard {index}; {_mend(path.parent)}")
    return info, Samples(*arrays)


def _refuse_unreadable(path: Path, error: Exception) -> None:
    """Raise UserError where the file may be whole but the system doesn't give it."""
    number = getattr(error, "errno", None)
    if number:
        raise UserError(f"can't read {path}: {os.strerror(number)}") from error


def _mend(folder: Path) -> str:
    return (
        f"prepare {folder} anew with: python -m data_prep --out {folder} --overwrite, "
        "and the options it was made with"
    )
