"""What every shard says of the data set that it belongs to, so that sets are never mixed."""

import json
from dataclasses import dataclass

from dist_vgg.data.samples import SPLITS

# In the request of a set, of earlier versions, whose test images are from the training set.
HELD_OUT = "held_out"


@dataclass(frozen=True)
class SetInfo:
    """The facts of a data set. All of its shards hold the same ones in their headers."""

    source: str  # "mnist", or "digits" for scikit-learn's stand-in
    request: str  # the preprocessing that made it, as JSON: equal request, equal shards
    shards: int  # number of shards in each split
    size: int  # side of an image, in pixels
    channels: int
    classes: int
    mean: tuple[float, ...]  # of the training set's pixels, 0..255, by channel or of all
    std: tuple[float, ...]  # their standard deviation
    zoom: str  # the filter that enlarged the images
    seed: int  # of the shuffle
    train_count: int
    test_count: int
    digest: str  # SHA-256 of the set, see `set_digest`
    held_out_count: int = 0
    class_names: tuple[str, ...] = ()  # of every class; none where they are numbers only
    preparation: str = "digit"  # one of base/bounds.py's PREPARATIONS

    def count(self, split: str) -> int:
        """Number of samples in a split."""
        return int(getattr(self, f"{split.replace('-', '_')}_count"))

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that the set has."""
        return tuple(split for split in SPLITS if split != "held-out" or self.held_out_count)

    def facts(self) -> dict[str, object]:
        """What must be the same on every host, in words: the images, and how they were dealt."""
        return {
            "the data set": self.digest[:16],
            "the number of shards": self.shards,
            "the request to data_prep": self.request,
        }

    @property
    def held_out(self) -> str:
        """The split of training images that were set aside to choose a recipe by; "" for none."""
        if self.held_out_count:
            return "held-out"
        return "test" if self._test_is_held_out else ""

    @property
    def _test_is_held_out(self) -> bool:
        try:
            return HELD_OUT in json.loads(self.request)
        except (ValueError, TypeError, RecursionError):  # not made by data_prep
            return False

    @property
    def test_name(self) -> str:
        """What messages call the split "test"."""
        return "held-out training" if self._test_is_held_out else "test"
