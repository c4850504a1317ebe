"""Which images are used, and in which order: the shuffle, the limit and the held-out images."""

from dataclasses import dataclass

import numpy as np

from data_prep.raw import Arrays, Raw
from dist_vgg.base.errors import UserError
from dist_vgg.data import deal


@dataclass(frozen=True)
class Selection:
    """The images to prepare."""

    rows: Arrays  # by split: the rows of its origin that are used, in order
    limit: int | None  # number of training images; None for all of them


def origin(split: str) -> str:
    """The split of the source that the images of a split come from."""
    return "train" if split == "held-out" else split


def select(raw: Raw, limit: int | None, held_out: int | None, seed: int) -> Selection:
    """Choose `limit` training images, and `held_out` others to be a split of their own.

    Both numbers may be None. Raises UserError where there are too few images for them.
    """
    rows = {split: deal.shuffled(len(y), seed, split) for split, y in raw.labels.items()}
    order = rows["train"]
    left = _left(len(order), held_out, limit) if held_out else None
    if limit is None or limit >= len(order):
        limit = left
    if limit is None:
        return Selection(rows, None)
    labels = raw.labels["train"][order]
    chosen = deal.choose(labels, limit)
    rows["train"] = order[chosen]
    if held_out:
        more = deal.choose(labels, limit + held_out)
        rows["held-out"] = order[np.setdiff1d(more, chosen)]
    return Selection(rows, limit)


def _left(images: int, held_out: int, limit: int | None) -> int:
    """Number of training images that are not held out; UserError where they are too few."""
    left = images - held_out
    if left < (limit or 1):
        few = f"{max(0, left):,} of the {images:,} training images"
        purpose = f"--limit {limit}" if limit else "training"
        raise UserError(
            f"--held-out {held_out} leaves {few}, too few for {purpose}; hold out fewer"
            + (", or set a lower --limit" if limit else "")
        )
    return left
