"""One run of a sweep: its options, and what its folder already holds."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dist_vgg.base.errors import UserError
from dist_vgg.data.dataset import open_set
from dist_vgg.data.set_info import SetInfo
from dist_vgg.runs.compatibility import stored_options
from dist_vgg.runs.config import TrainConfig
from dist_vgg.runs.folder import holds_steps
from dist_vgg.sweep.variants import Variant, label

TEST_SCORE, HELD_OUT_SCORE = "score.json", "held-out.json"  # of evaluate, in the run's folder
# What json and dictionaries raise for a file that is not what it was.
DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError)


class Scored(NamedTuple):
    """Images that a run is scored on."""

    score: Path  # the file that evaluate writes
    data: Path
    split: str


@dataclass(frozen=True)
class SweepRun:
    """One training of a sweep: a variant with a seed."""

    variant: Variant
    seed: int
    folder: Path
    data: Path
    held_out: Path | None  # where the held-out images are, to score them as well
    options: list[str]  # of train
    config: TrainConfig

    @property
    def title(self) -> str:
        """How messages name the run."""
        return f"{label(self.variant)}, seed {self.seed}"

    def check_folder(self, info: SetInfo) -> None:
        """Raise UserError where the folder holds another run than this one, finished or not.

        `info` describes the data set that this one is to be trained on.
        """
        left = ("weights.h5", TEST_SCORE)  # large files may have been removed since
        if not (any((self.folder / name).exists() for name in left) or holds_steps(self.folder)):
            return
        try:
            stored = json.loads((self.folder / "config.json").read_text())
            before = stored_options(stored["config"]).result_options()
            # --kernels auto means those that the run has.
            now = stored_options(stored["config"], **self.config.as_dict()).result_options()
            dataset = {name: stored["dataset"][name] for name in ("sha256", "shards", "request")}
        except DAMAGED as error:
            raise self.damaged(error) from error
        for name, value in now.items():
            if before[name] != value:
                raise UserError(
                    f"{self.folder} was trained with {name} {before[name]}, not {value}; "
                    "choose another --out, or remove it"
                )
        # The same images in other shards give other weights.
        if dataset != dict(sha256=info.digest, shards=info.shards, request=info.request):
            raise UserError(
                f"{self.folder} was trained on another data set, or other shards of it, than "
                f"{self.data} holds; choose another --out, or remove it"
            )

    def sets(self) -> dict[str, Scored]:
        """What the run is scored on, by the name that the tables have for it.

        Where the test images are not asked for beside the held-out ones, a set that has
        held-out images is scored on them: a sweep is for choosing.
        """
        info, score = open_set(self.data), self.folder / TEST_SCORE
        if not self.held_out:
            return {"test": Scored(score, self.data, info.held_out or "test")}
        split = open_set(self.held_out).held_out
        return {
            "held out": Scored(self.folder / HELD_OUT_SCORE, self.held_out, split),
            "test": Scored(score, self.data, "test"),
        }

    def scores(self, shifts: int) -> dict[str, Any] | None:
        """What evaluate wrote, by "test" and "held out"; None where it has yet to be run.

        Raises UserError for a score that cannot be read.
        """
        sets = self.sets()
        if not all(scored.score.exists() for scored in sets.values()):
            return None
        try:
            found = {key: json.loads(scored.score.read_text()) for key, scored in sets.items()}
            scored_shifts = {one.get("shifted", {}).get("shifts", 0) for one in found.values()}
            weights = {one["weights"] for one in found.values()}
            images = {key: (one["dataset"], one["split"]) for key, one in found.items()}
        except DAMAGED as error:
            raise self.damaged(error) from error
        # Scores of other images, or over other shifts, only need another evaluation.
        for key, (_, data, split) in sets.items():
            if images[key] != (open_set(data).digest, split):
                return None
        same_shifts = not shifts or scored_shifts == {shifts}
        return found if len(weights) == 1 and same_shifts else None

    def damaged(self, error: Exception) -> UserError:
        """The error to raise for a file of the run that is not what it was."""
        return UserError(f"{self.folder} is damaged ({error}); remove it")
