"""Shards are written by way of a spool: every image is read and resized once, in order of id."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from tqdm import tqdm

from data_prep.raw import Pictures, Raw
from data_prep.selection import origin
from data_prep.spool import Spool
from dist_vgg.base.command_line import plural
from dist_vgg.base.errors import UserError
from dist_vgg.data.deal import deal
from dist_vgg.data.pictures import BadPicture, silent
from dist_vgg.data.samples import Samples, pixel_statistics, set_digest
from dist_vgg.data.set_info import SetInfo
from dist_vgg.data.shards import write_shard

Say = Callable[[str], None]
NAMED = 3  # pictures left out that are named


@dataclass(frozen=True)
class Shape:
    """What all images are brought to."""

    size: int
    channels: int
    fit: str  # "crop", "pad" or "stretch"

    @property
    def bytes(self) -> int:
        """Of an image."""
        return self.size**2 * self.channels

    def __str__(self) -> str:
        colours = f"x{self.channels}" if self.channels > 1 else ""
        return f"{self.size}x{self.size}{colours}"


@dataclass(frozen=True)
class Part:
    """A split in the spool, where images lie in order of id."""

    spool: Spool
    order: np.ndarray  # the row in the spool of the first image to deal, the second, ...
    labels: np.ndarray  # in order of id, as the spool
    ids: np.ndarray

    def samples(self, rows: np.ndarray | None = None) -> Samples:
        """All samples in order of id, or some of them as they are dealt; no pixels are read yet."""
        places = np.arange(len(self.ids)) if rows is None else self.order[rows]
        pixels = cast("np.ndarray", self.spool.select(places))
        return Samples(pixels, self.labels[places], self.ids[places])


def check_disk(folder: Path, images: int, shape: Shape) -> None:
    """Raise UserError where a disk can't hold the spool beside the shards."""
    # No images of use compress to less than a quarter.
    need = images * shape.bytes * 5 // 4
    there = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    have = shutil.disk_usage(there).free
    if need > have:
        raise UserError(
            f"{plural(images, 'image')} of {shape} need {-(-need >> 20):,} MiB of disk while they "
            f"are prepared, and {folder} has {have >> 20:,} free; choose another --out, or a "
            "smaller --size or --limit"
        )


@contextmanager
def spooled(
    stage: Path, raw: Raw, rows: dict[str, np.ndarray], shape: Shape, skip_bad: bool, say: Say
) -> Iterator[dict[str, Part]]:
    """Read and resize the chosen images of all splits.

    Raises UserError for an image that can't be read; with `skip_bad` they are left out and told.
    """
    with ExitStack() as stack:
        parts, bad = {}, list[str]()
        for split, chosen in rows.items():
            verb = "enlarging" if raw.preparation == "digit" else "preparing"
            say(f"{verb} {len(chosen):,} {split} images to {shape}")
            spool = Spool(stage, (shape.size, shape.size, shape.channels))
            stack.callback(spool.close)
            ids, labels = raw.ids[origin(split)], raw.labels[origin(split)]
            in_order = chosen[np.argsort(ids[chosen])]
            fine = _fill(spool, raw.pictures[origin(split)], in_order, shape, bad, skip_bad, split)
            _check_left(labels[in_order], labels[in_order[fine]], raw, split)
            in_order = in_order[fine]
            chosen = chosen[np.isin(chosen, in_order)]
            order = np.searchsorted(ids[in_order], ids[chosen])
            parts[split] = Part(spool, order, labels[in_order], ids[in_order])
        if bad:
            named = bad[:NAMED] + ["..."] * (len(bad) > NAMED)
            say(f"left out {plural(len(bad), 'bad picture')}: {'; '.join(named)}")
        yield parts


def _check_left(before: np.ndarray, after: np.ndarray, raw: Raw, split: str) -> None:
    """Raise UserError where all pictures of a class were left out."""
    if len(gone := np.setdiff1d(before, after)):
        name = raw.class_names[gone[0]] if raw.class_names else gone[0]
        raise UserError(f"none of the {split} pictures of the class {name} can be read")


def _fill(
    spool: Spool,
    pictures: Pictures,
    rows: np.ndarray,
    shape: Shape,
    bad: list[str],
    skip_bad: bool,
    label: str,
) -> np.ndarray:
    """Append images to the spool; which of them could be read, (n,) bool."""
    fine = np.ones(len(rows), bool)
    # None: the bar shows only on a terminal.
    options: dict[str, Any] = dict(desc=label, unit=" images", disable=None, smoothing=0.05)
    with silent() as errors, tqdm(total=len(rows), file=errors, **options) as bar:
        for index, row in enumerate(rows):
            try:
                spool.append(pictures.pixels(int(row), shape.size, shape.channels, shape.fit))
            except BadPicture as error:
                if not skip_bad:
                    raise UserError(
                        f"{error}; mend or remove it, or leave such pictures out with --skip-bad"
                    ) from error
                fine[index] = False
                bad.append(str(error))  # no more: an error holds on to the picture
            bar.update()
    return fine


def facts(parts: dict[str, Part]) -> dict[str, Any]:
    """What the images decide of a set's `SetInfo`."""
    mean, std = pixel_statistics(parts["train"].samples().pixels)
    return dict(
        mean=mean,
        std=std,
        digest=set_digest({split: part.samples() for split, part in parts.items()}),
        **{f"{split.replace('-', '_')}_count": len(part.ids) for split, part in parts.items()},
    )


def write_shards(stage: Path, parts: dict[str, Part], info: SetInfo, say: Say) -> None:
    """Deal the images of all splits to shards, and write them."""
    *first, last = (f"{info.shards} {split}" for split in parts)
    say(f"writing {', '.join(first)} and {last} shards")
    with tqdm(total=len(parts) * info.shards, desc="shards", disable=None) as bar:
        for split, part in parts.items():
            for index, rows in enumerate(deal(part.labels[part.order], info.shards)):
                write_shard(stage, split, index, part.samples(rows), info)
                bar.update()
