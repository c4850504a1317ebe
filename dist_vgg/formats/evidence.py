"""What is known of weights besides themselves: how well they do, and what command trained them."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dist_vgg.base import bounds
from dist_vgg.base.errors import UserError
from dist_vgg.runs.config import TrainConfig
from dist_vgg.runs.fields import describe_options
from dist_vgg.runs.log import read_metrics
from dist_vgg.state.weights import Weights

MALFORMED = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)


@dataclass(frozen=True)
class Measured:
    """What `evaluate --json` has found of weights."""

    weights: str  # SHA-256
    accuracy: float
    loss: float
    count: int  # of images
    images: str  # what they are called, such as test
    dataset: str  # SHA-256


MEASURED: dict[str, bounds.Rule] = dict(
    weights=bounds.sha256,
    accuracy=bounds.number(0, 1),
    loss=bounds.number(0, 1e9),
    count=bounds.integer(1, 2**53),
    images=bounds.text,
    dataset=bounds.sha256,
)


def read_measured(path: Path, weights: Weights) -> Measured:
    """The score of these weights in a file that `evaluate --json` wrote.

    Raises UserError for another file, and for one of other weights.
    """
    try:
        found = _scores(json.loads(path.read_text()))
    except OSError as error:
        raise UserError(f"can't read --metrics {path}: {error.strerror}") from error
    except MALFORMED as error:
        raise UserError(
            f"--metrics {path} is not what evaluate --json writes; name a file that is"
        ) from error
    for each in found:
        if each.weights == weights.sha256:
            return each
    raise UserError(
        f"--metrics {path} is of the parameters {found[0].weights[:16]}, and these are "
        f"{weights.sha256[:16]}; export without --metrics, evaluate what was written, then export "
        "again"
    )


def _scores(result: Mapping[str, Any]) -> list[Measured]:
    """The scores of all weights in a run's folder; raises one of MALFORMED."""
    found = []
    for name in ("weights", "average", "best"):
        own = result if name == "weights" else result.get(name)
        if own is not None:
            fields = {key: own[key] for key in ("weights", "accuracy", "loss")}
            fields |= {key: result[key] for key in ("images", "dataset")}
            fields["count"] = sum(map(sum, own["confusion"]))
            if reason := bounds.wrong(fields, MEASURED):
                raise ValueError(reason)
            found.append(Measured(**fields))
    return found


@dataclass(frozen=True)
class Training:
    """What a run's folder tells of itself."""

    command: str
    commit: str  # of the source; "" where it isn't known
    sha256: str  # of the parameters after the last epoch


def read_training(folder: Path, weights: Weights) -> Training | None:
    """How weights were trained, where the folder has the records of such a run."""
    try:
        config = json.loads((folder / "config.json").read_text())
        commit = config["git_commit"] or ""
        sha256 = read_metrics(folder, "epoch")[-1]["sha256"]
        known = bounds.sha256(sha256) and bounds.text(commit)
        if not known or config["dataset"]["sha256"] != weights.dataset:
            return None
        return Training(command(config), commit, sha256)
    except (OSError, *MALFORMED):
        return None


def command(config: Mapping[str, Any]) -> str:
    """The command of a run, from its config.json: ranks, and the options that the result needs.

    Of folders and files it has the names only, since they lie elsewhere on other machines. Raises
    one of MALFORMED.
    """
    options, words = config["config"], []
    for option in describe_options(TrainConfig):
        value = options.get(option.name, option.default)
        if option.changes_result and value != option.default:
            if type(value) is bool:
                words.append(option.flag if value else option.flag.replace("--", "--no-", 1))
            else:
                words += [option.flag, Path(value).name if option.name == "init" else str(value)]
    ranks = config["ranks"]
    start = ["mpirun", "-n", str(ranks)] if ranks != 1 else []
    data = ["--data", Path(options["data"]).name]
    found = shlex.join([*start, "python", "-m", "dist_vgg.train", *data, *words])
    if not bounds.integer(1, 2**31)(ranks) or not bounds.text(found):
        raise ValueError("it is none of ours")
    return found
