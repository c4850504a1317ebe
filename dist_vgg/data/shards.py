"""A shard is one HDF5 file of labelled images and the logical worker that owns it.

A data set is a folder of `train-00000-of-00008.h5` ... and `test-00000-of-00008.h5` ..., and
`held-out-00000-of-00008.h5` ... where training images were set aside.
Each file holds

    pixels   (n, size, size, channels) uint8    gzip, in chunks of rows
    labels   (n,) uint8, or uint16 for more than 256 classes
    ids      (n,) int64                         index in the original data set

and says in its header which data set it belongs to (`SetInfo`), so that shards of different
sets are never mixed unnoticed. A digest covers the whole file (see base/files.py).
"""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from dist_vgg.base import bounds
from dist_vgg.base.bounds import MAX_SHARDS, Rule, integer, sha256, text
from dist_vgg.base.errors import UserError
from dist_vgg.base.files import NotWhole, open_hdf5, whole_hdf5
from dist_vgg.data.samples import SPLITS, Samples, blocks, label_type
from dist_vgg.data.set_info import SetInfo

MAX_BYTES = 768 << 20  # of a shard's pixels; all of MNIST at 64x64 is a third of it
MAX_SAMPLES = MAX_BYTES // 32**2  # 32 pixels are the least side that VGG16 takes
MAX_COUNT = 2**31 - 1  # samples in a split
CHUNK = 1 << 14  # bytes of pixels that are compressed together


HEADER: dict[str, Rule] = dict(
    split=lambda value: value in SPLITS,
    index=integer(0, MAX_SHARDS - 1),
    source=text,
    request=text,
    shards=integer(1, MAX_SHARDS),
    size=integer(32, bounds.MAX_SIZE),
    channels=integer(1, bounds.MAX_CHANNELS),
    classes=integer(1, bounds.MAX_CLASSES),
    zoom=text,
    seed=integer(0, 2**63 - 1),
    train_count=integer(1, MAX_COUNT),
    test_count=integer(1, MAX_COUNT),
    digest=sha256,
    held_out_count=integer(0, MAX_COUNT),
    **bounds.IMAGES,
)
ABSENT = dict(held_out_count=0, **bounds.ABSENT_IMAGES)  # in shards of earlier versions


def shard_path(folder: Path, split: str, index: int, count: int) -> Path:
    """The file of shard `index` of `count`."""
    return folder / f"{split}-{index:05d}-of-{count:05d}.h5"


def find_shards(folder: Path) -> list[Path]:
    """All files in a folder that have a shard's name, of whatever set."""
    return sorted(path for split in SPLITS for path in folder.glob(f"{split}-?????-of-?????.h5"))


def write_shard(folder: Path, split: str, index: int, samples: Samples, info: SetInfo) -> None:
    """Write one shard, whole or not at all; UserError for more pixels than a reader takes."""
    n, *image = samples.pixels.shape
    path = shard_path(folder, split, index, info.shards)
    size = n * math.prod(image)
    if size > MAX_BYTES:
        raise UserError(
            f"{path} would hold {size >> 20:,} MiB of pixels, more than "
            f"{MAX_BYTES >> 20}; prepare more shards with --shards, or smaller images with --size"
        )
    with whole_hdf5(path, "a shard") as file:
        bounds.write_header(file, "shard", dict(split=split, index=index, **vars(info)))
        pixels = file.create_dataset(
            "pixels",
            samples.pixels.shape,
            "u1",
            # Large enough to compress; small, since one image on demand costs its whole chunk.
            chunks=(max(1, min(n, 16, CHUNK // math.prod(image))), *image),
            compression="gzip",
            compression_opts=1,
        )
        for rows in blocks(samples.pixels):
            pixels[rows] = samples.pixels[rows]
        file.create_dataset("labels", data=samples.labels, dtype=label_type(info.classes))
        file.create_dataset("ids", data=samples.ids, dtype="<i8")


def read_shard(
    path: Path, with_samples: bool = True, on_demand: bool = False
) -> tuple[SetInfo, Samples]:
    """What a shard says of its data set, and its samples, which may be left out.

    Pixels `on_demand` are read from the file when they are needed. Raises UserError where the
    file is damaged or misnamed.
    """
    arrays: Any = [np.empty(0)] * 3
    try:
        with open_hdf5(path) as file:
            header = bounds.read_header(file, "shard", HEADER, ABSENT)
            bounds.check_images(header, header["channels"], header["classes"])
            root = bounds.root(file)
            if bounds.members(root) != ["ids", "labels", "pixels"]:
                raise NotWhole("it holds other things than it should")
            if with_samples:
                labels = np.dtype(label_type(header["classes"])).newbyteorder("<")
                if on_demand:
                    pixels = bounds.rows_on_demand(root, path, "pixels", "u1", 4, MAX_BYTES)
                else:
                    pixels = bounds.read_array(root, "pixels", "u1", 4, MAX_BYTES)
                arrays = [
                    pixels,
                    bounds.read_array(root, "labels", labels.str, 1, 2 * MAX_SAMPLES),
                    bounds.read_array(root, "ids", "<i8", 1, 8 * MAX_SAMPLES),
                ]
    except bounds.UNREADABLE as error:
        if number := getattr(error, "errno", None):  # the file may well be whole
            raise UserError(f"can't read {path}: {os.strerror(number)}") from error
        reason = str(error) if isinstance(error, NotWhole) else "it can't be read"
        raise UserError(
            f"shard {path} is damaged ({reason}); {how_to_mend(path.parent)}"
        ) from error
    split, index = header.pop("split"), header.pop("index")
    info = SetInfo(**header)
    if shard_path(path.parent, split, index, info.shards) != path:
        raise UserError(
            f"shard {path} says that it is {split} shard {index}; {how_to_mend(path.parent)}"
        )
    return info, Samples(*arrays)


def how_to_mend(folder: Path) -> str:
    """The end of a message about bad shards: the command that makes them anew."""
    return (
        f"prepare {folder} anew with: python -m data_prep --out {folder} --overwrite, "
        "and the options it was made with"
    )


def hosted(shards: int, ranks: int, rank: int) -> range:
    """The contiguous shards that a rank hosts: 8 shards on 3 ranks are 3, 3 and 2."""
    each, more = divmod(shards, ranks)
    first = rank * each + min(rank, more)
    return range(first, first + each + (rank < more))


def shard_limit(limit: int, shards: int, index: int) -> int | None:
    """A shard's part of a limit on all samples; None where the limit is 0, which means all."""
    return len(hosted(limit, shards, index)) if limit else None
