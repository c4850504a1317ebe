"""What every shard says of the data set that it belongs to, so that sets are never mixed."""

import json
from dataclasses import dataclass

HELD_OUT = "held_out"  # in the request of a set whose test images are from the training set


@dataclass(frozen=True)
class SetInfo:
    """The facts of a data set. All of its shards hold the same ones in their headers."""

    source: str  # "mnist", or "digits" for scikit-learn's stand-in
    request: str  # the preprocessing that made it, as JSON: equal request, equal shards
    shards: int  # number of shards in each split
    size: int  # side of an image, in pixels
    channels: int
    classes: int
    mean: float  # of all pixels of the training set, 0..255
    std: float  # their standard deviation
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
        """Whether the split "test" holds training images, set aside to choose a recipe by."""
        try:
            return HELD_OUT in json.loads(self.request)
        except (ValueError, TypeError, RecursionError):  # not made by data_prep
            return False

    @property
    def test_name(self) -> str:
        """What messages call the split "test"."""
        return "held-out training" if self.held_out else "test"
