"""A shard is one HDF5 file of labelled images and the logical worker that owns it.

A data set is a folder of `train-00000-of-00008.h5` ... and `test-00000-of-00008.h5` ....
Each file holds

    pixels   (n, size, size, channels) uint8    chunked, gzip, fletcher32
    labels   (n,) uint8                         fletcher32
    ids      (n,) int64                         fletcher32; index in the original data set

and says in its attributes which data set it is a part of (`SetInfo`), so that shards of
different sets can never be mixed silently.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import h5py
import numpy as np

from dist_vgg.errors import UserError
from dist_vgg.files import whole_hdf5

SCHEMA = 1
SPLITS = ("train", "test")


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
    """Write one shard, whole or not at all."""
    n, height, width, channels = samples.pixels.shape
    path = shard_path(folder, split, index, info.shards)
    with whole_hdf5(path, "a shard") as file:
        file.create_dataset(
            "pixels",
            data=samples.pixels,
            # About 64 KB a chunk for MNIST's 64x64: large enough to compress, small to check.
            chunks=(min(n, 16), height, width, channels),
            compression="gzip",
            compression_opts=1,
            shuffle=False,
            fletcher32=True,
        )
        for name, data, dtype in (("labels", samples.labels, "u1"), ("ids", samples.ids, "i8")):
            file.create_dataset(name, data=data.astype(dtype), chunks=(n,), fletcher32=True)
        file.attrs["schema"] = SCHEMA
        file.attrs["split"] = split
        file.attrs["index"] = index
        for field in fields(SetInfo):
            file.attrs[field.name] = getattr(info, field.name)


def open_set(folder: Path) -> SetInfo:
    """Read what the folder's shards say of their set, after checking that they all agree.

    Raises UserError where there are no shards, one is missing or damaged, or shards of
    different sets lie together.
    """
    if folder.is_file():
        raise UserError(f"--data {folder} is a file; name a folder of shards")
    if not folder.is_dir():
        raise UserError(
            f"no data folder {folder}; make one with: python -m data_prep --out {folder}"
        )
    paths = find_shards(folder)
    if not paths:
        raise UserError(
            f"no shards in {folder}; make them with: python -m data_prep --out {folder}"
        )
    infos = {path: _read_header(path) for path in paths}
    first = infos[paths[0]]
    for path, info in infos.items():
        if info != first:
            raise UserError(
                f"{path} belongs to another data set than {paths[0].name}; "
                f"prepare {folder} anew with: python -m data_prep --out {folder} --overwrite"
            )
    for split in SPLITS:
        for index in range(first.shards):
            path = shard_path(folder, split, index, first.shards)
            if path not in infos:
                raise UserError(f"shard {path} is missing; {_mend(path)}")
    return first


def load_shard(folder: Path, split: str, index: int, info: SetInfo) -> Samples:
    """Read one shard into memory; its checksums are verified on the way.

    Raises UserError for a damaged file, another data set, or a label outside the classes.
    """
    path = shard_path(folder, split, index, info.shards)
    if _read_header(path) != info:
        raise UserError(f"{path} belongs to another data set than its neighbours; {_mend(path)}")
    try:
        with h5py.File(path, "r") as file:
            samples = Samples(file["pixels"][...], file["labels"][...], file["ids"][...])
    except (OSError, KeyError, RuntimeError) as error:
        raise UserError(
            f"shard {path} is damaged (its data can't be read); {_mend(path)}"
        ) from error
    shape = (len(samples), info.size, info.size, info.channels)
    if samples.pixels.shape != shape or samples.labels.shape != shape[:1]:
        raise UserError(f"shard {path} has arrays of unequal length; {_mend(path)}")
    if len(samples) and samples.labels.max() >= info.classes:
        row = int(samples.labels.argmax())
        raise UserError(
            f"shard {path}: sample {samples.ids[row]} has label {samples.labels[row]}, outside "
            f"the classes 0..{info.classes - 1}; {_mend(path)}"
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
                f"prepare it anew with: python -m data_prep --out {folder} --overwrite"
            )
        splits[split] = samples
    if set_digest(splits) != info.digest or pixel_statistics(splits["train"].pixels) != (
        info.mean,
        info.std,
    ):
        raise UserError(
            f"the content of {folder} is not what its shards were written with; "
            f"prepare it anew with: python -m data_prep --out {folder} --overwrite"
        )
    yield f"SHA-256 {info.digest}"


def normalise(pixels: np.ndarray, mean: float, std: float) -> np.ndarray:
    """Turn uint8 pixels into float32 of the training set's mean 0 and deviation 1."""
    x = pixels.astype(np.float32)
    x -= np.float32(mean)
    x *= np.float32(1 / std)
    return x


def _read_header(path: Path) -> SetInfo:
    """What one shard says of its set; UserError where the file is damaged or misnamed."""
    try:
        with h5py.File(path, "r") as file:
            attributes = dict(file.attrs)
    except (OSError, RuntimeError) as error:
        _refuse_unreadable(path, error)
        raise UserError(f"shard {path} is damaged or cut short; {_mend(path)}") from error
    schema = attributes.get("schema")
    if schema != SCHEMA:
        raise UserError(
            f"shard {path} has schema {schema}, this program reads schema {SCHEMA}; {_mend(path)}"
        )
    try:
        info = SetInfo(**{f.name: f.type(attributes[f.name]) for f in fields(SetInfo)})  # type: ignore[operator]
        place = (str(attributes["split"]), int(attributes["index"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"shard {path} lacks the attribute {error}; {_mend(path)}") from error
    if shard_path(path.parent, *place, info.shards) != path:
        raise UserError(f"shard {path} says that it is {place[0]} shard {place[1]}; {_mend(path)}")
    return info


def _refuse_unreadable(path: Path, error: Exception) -> None:
    """Raise UserError where the file may be whole but the system doesn't give it."""
    number = getattr(error, "errno", None)
    if number:
        raise UserError(f"can't read {path}: {os.strerror(number)}") from error


def _mend(path: Path) -> str:
    return (
        f"prepare {path.parent} anew with: python -m data_prep --out {path.parent} --overwrite, "
        "and the options it was made with"
    )
