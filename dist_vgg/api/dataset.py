"""A data set is labelled images, from arrays or from a folder of shards.

Arrays are dealt to shards as `data_prep` deals them, so what is trained here with so many shards
has the bits of what the train command makes of the same images in so many files.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dist_vgg.base.bounds import (
    IMAGES,
    MAX_CHANNELS,
    MAX_CLASSES,
    MAX_NAME,
    MAX_NAMES,
    MAX_SHARDS,
    MAX_SIZE,
    PREPARATIONS,
)
from dist_vgg.base.command_line import plural
from dist_vgg.base.errors import UserError
from dist_vgg.data.dataset import check_split, load_shard, open_set
from dist_vgg.data.deal import deal, shuffled
from dist_vgg.data.samples import SPLITS, Samples, label_type, pixel_statistics, set_digest
from dist_vgg.data.set_info import HELD_OUT, SetInfo
from dist_vgg.data.shards import find_shards, hosted, shard_limit, write_shard
from dist_vgg.data.staging import staged
from dist_vgg.network.vgg import STRIDE


class Dataset:
    """Labelled images, dealt to shards.

    The number of shards decides the global batch, `shards * micro_batch` images, and how many MPI
    ranks can train together at most. The images stay where they are; each rank copies its shards.
    """

    info: SetInfo  # what every shard says of the set
    split = "train"

    def __init__(
        self,
        images: ArrayLike,
        labels: ArrayLike,
        *,
        shards: int = 8,
        seed: int = 0,
        classes: int | None = None,
        ids: ArrayLike | None = None,
        source: str = "arrays",
        class_names: Sequence[str] = (),
        preparation: str = "",
    ) -> None:
        """Take images (N, side, side) or (N, side, side, channels) uint8, and labels (N,).

        The side is a multiple of 32. `seed` shuffles the images before they are dealt. `classes`
        is one more than the largest label unless given, and `class_names` are their names. `ids`
        (N,) name the images in the random numbers of dropout and augmentation: 0, 1, 2, ... unless
        given. `source` says in messages and files what the images are. `predict` brings a picture
        to their size by `preparation`: as a "digit" (grey ones), by "crop", "pad" or "stretch".

        Raises UserError where the arrays can't be trained on.
        """
        pixels = as_images(images)
        _check_pixels(pixels)
        marks = _as_labels(labels, len(pixels), classes)
        _check_deal(len(pixels), shards)
        self._samples = Samples(pixels, marks, _as_ids(ids, len(pixels)))
        order = shuffled(len(pixels), seed, "train")
        self._rows = [order[rows] for rows in deal(marks[order], shards)]
        mean, std = pixel_statistics(pixels)
        self.info = SetInfo(
            source=source,
            request=json.dumps(dict(seed=seed, shards=shards, source=source)),
            shards=shards,
            size=pixels.shape[1],
            channels=pixels.shape[3],
            classes=int(marks.max()) + 1 if classes is None else classes,
            mean=mean,
            std=std,
            zoom="none",
            seed=seed,
            train_count=len(pixels),
            test_count=0,
            digest=set_digest({"train": self._samples, "test": self._samples[:0]}),
            class_names=tuple(class_names),
            preparation=preparation or ("digit" if pixels.shape[3] == 1 else "crop"),
        )
        _check_words(self.info)

    @staticmethod
    def open(folder: str | Path, split: str = "train") -> "Dataset":
        """Open a folder of shards, as `python -m data_prep` or `save` has written it.

        A rank reads the shards that it hosts, and only when it needs them. Raises UserError where
        the folder is no whole data set.
        """
        return _ShardFolder(Path(folder), split)

    def __len__(self) -> int:
        return self.info.count(self.split)

    def __repr__(self) -> str:
        info = self.info
        return (
            f"<Dataset {info.source}: {plural(len(self), 'image')} of "
            f"{info.size}x{info.size}x{info.channels}, {info.classes} classes, "
            f"{plural(info.shards, 'shard')}>"
        )

    def shard(self, index: int) -> Samples:
        """The images, labels and ids of one shard."""
        return self._samples[self._rows[index]]

    def local(self, ranks: int = 1, rank: int = 0, limit: int = 0) -> dict[int, Samples]:
        """The shards that one of so many ranks hosts, by number; together at most `limit` images.

        Raises UserError where there are more ranks than shards.
        """
        shards = self.info.shards
        if ranks > shards:
            raise UserError(
                f"{ranks} ranks for {plural(shards, 'shard')}: a rank needs a shard, so start at "
                f"most {plural(shards, 'rank')}, or make the data set with more shards"
            )
        return {
            i: self.shard(i)[: shard_limit(limit, shards, i)] for i in hosted(shards, ranks, rank)
        }

    def save(self, folder: str | Path, test: "Dataset", held_out: "Dataset | bool" = False) -> None:
        """Write this set and its test images as a folder of shards, for the commands to train on.

        `held_out` are training images kept back, for `--validate`; True says that the test images
        are such. Raises UserError where the folder holds shards already or can't be written to,
        or the sets differ in kind. A save that fails or is interrupted leaves nothing.
        """
        folder, own = Path(folder), self.info
        sets = {"train": self, "test": test}
        if isinstance(held_out, Dataset):
            sets["held-out"] = held_out
        _check_alike(sets)
        if find_shards(folder):
            raise UserError(f"{folder} holds shards already; name another folder")
        request = json.loads(own.request) | ({HELD_OUT: len(test)} if held_out is True else {})
        counts = {f"{split.replace('-', '_')}_count": len(part) for split, part in sets.items()}
        classes = max(part.info.classes for part in sets.values())
        made: dict[str, Any] = dict(
            request=json.dumps(request),
            classes=classes,
            class_names=own.class_names if classes == own.classes else (),
            held_out_count=0,
            digest=set_digest({split: part._whole() for split, part in sets.items()}),
        )
        info = SetInfo(**{**vars(own), **made, **counts})
        with staged(folder, str(folder), "remove those that are there, and save again") as stage:
            for split, part in sets.items():
                for index in range(info.shards):
                    write_shard(stage, split, index, part.shard(index), info)

    def _whole(self) -> Samples:
        """All images of the set."""
        parts = [self.shard(index) for index in range(self.info.shards)]
        return Samples(
            *(np.concatenate([getattr(part, name) for part in parts])
              for name in ("pixels", "labels", "ids"))
        )  # fmt: skip


class _ShardFolder(Dataset):
    """A data set in files."""

    def __init__(self, folder: Path, split: str) -> None:
        if split not in SPLITS:
            raise UserError(f"no split {split}; choose one of {', '.join(SPLITS)}")
        self._folder, self.split, self.info = folder, split, open_set(folder)
        check_split(self.info, split, folder)

    def shard(self, index: int) -> Samples:
        return load_shard(self._folder, self.split, index, self.info)


def _check_alike(sets: Mapping[str, Dataset]) -> None:
    """Raise UserError where the sets of one folder differ in kind."""
    own = sets["train"].info
    for split, part in sets.items():
        for name in ("size", "channels", "shards"):
            if getattr(own, name) != getattr(part.info, name):
                raise UserError(
                    f"the training set has {name} {getattr(own, name)} and the {split} set "
                    f"{getattr(part.info, name)}; make them alike"
                )


def as_images(images: ArrayLike) -> np.ndarray:
    """Images as (N, side, side, channels) uint8; UserError where they can't be seen so."""
    try:
        pixels = np.asarray(images)
    except ValueError as error:
        raise UserError("the images differ in shape; make them equally large") from error
    if pixels.ndim not in (3, 4):
        raise UserError(
            f"the images have the shape {pixels.shape}; give (N, side, side) for grey ones, or "
            "(N, side, side, channels)"
        )
    if not len(pixels):
        raise UserError("there are no images")
    if pixels.dtype != np.uint8:
        raise UserError(
            f"the images are {pixels.dtype}; give uint8 from 0 to 255, of numbers from 0 to 1 as "
            "(255 * images).round().astype('uint8')"
        )
    return pixels if pixels.ndim == 4 else pixels[..., None]


def _check_pixels(pixels: np.ndarray) -> None:
    """Raise UserError for images that VGG16 can't take, or learn nothing from."""
    height, width, channels = pixels.shape[1:]
    if height != width or height % STRIDE or not STRIDE <= height <= MAX_SIZE:
        raise UserError(
            f"the images are {height}x{width}; VGG16 halves them five times, so give squares whose "
            f"side is a multiple of {STRIDE} up to {MAX_SIZE}. np.pad makes 28x28 into 32x32"
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise UserError(f"the images have {channels} channels; give 1 to {MAX_CHANNELS}")
    if pixels.min() == pixels.max():
        raise UserError("all pixels of the images have one value: there is nothing to learn")


def _check_deal(images: int, shards: int) -> None:
    """Raise UserError where there are too many shards for the images."""
    if not 1 <= shards <= min(images, MAX_SHARDS):
        raise UserError(
            f"{plural(images, 'image')} can't be dealt to {plural(shards, 'shard')}; "
            f"give shards= from 1 to {min(images, MAX_SHARDS):,}"
        )


def _as_labels(labels: ArrayLike, count: int, classes: int | None) -> np.ndarray:
    """Labels as (N,) integers, checked against the number of images and of classes."""
    marks = np.asarray(labels)
    if marks.shape != (count,):
        raise UserError(
            f"{plural(count, 'image')} need labels of the shape ({count},), not {marks.shape}"
        )
    if marks.dtype.kind not in "iu":
        raise UserError(f"the labels are {marks.dtype}; give integers from 0 up")
    least, most = int(marks.min()), int(marks.max())
    if classes is not None and not 1 <= classes <= MAX_CLASSES:
        raise UserError(f"classes={classes} is out of range; give 1 to {MAX_CLASSES}")
    limit = classes or MAX_CLASSES
    if least < 0 or most >= limit:
        wrong = least if least < 0 else most
        raise UserError(f"label {wrong} is outside the classes 0 to {limit - 1}")
    return marks.astype(label_type(limit if classes else most + 1))


def _check_words(info: SetInfo) -> None:
    """Raise UserError for names and a preparation that files would not take."""
    for name, rule in IMAGES.items():
        if not rule(getattr(info, name)):
            shown = repr(getattr(info, name))  # of a thousand names, the first few
            raise UserError(
                f"{name}={shown[:80]} can't be used: a name has 1 to {MAX_NAME} printable letters, "
                f"all together {MAX_NAMES:,}; a preparation is one of {', '.join(PREPARATIONS)}"
            )
    if len(info.class_names) not in (0, info.classes):
        raise UserError(
            f"{plural(len(info.class_names), 'class name')} for {info.classes} classes; "
            "give one for each"
        )


def _as_ids(ids: ArrayLike | None, count: int) -> np.ndarray:
    """Sample ids as (N,) int64, each once."""
    if ids is None:
        return np.arange(count)
    names = np.asarray(ids)
    if names.shape != (count,) or names.dtype.kind not in "iu":
        raise UserError(f"ids= needs {count} integers, one for each image")
    if names.min() < 0 or len(np.unique(names)) != count:
        raise UserError("ids= has an id twice or below 0; each image needs its own")
    return names.astype(np.int64)
