"""The result of a run, as sweep.json has it."""

import shlex
from collections.abc import Mapping
from typing import Any

from dist_vgg.runs.log import read_metrics
from dist_vgg.sweep.run import DAMAGED, SweepRun

MODELS = ("weights", "average", "best")  # the networks that a run may leave

Result = Mapping[str, Any]


def result_of(run: SweepRun, scores: Mapping[str, Any]) -> Result:
    """What the tables and sweep.json have of a run; UserError where its files are damaged.

    `scores` are those of `SweepRun.scores`. Minutes count the steps, without checkpoints and
    evaluation.
    """
    try:
        epochs = read_metrics(run.folder, "epoch")
        return dict(
            variant=run.variant,
            seed=run.seed,
            folder=str(run.folder),
            images=scores["test"]["images"],
            command="python -m dist_vgg.train " + shlex.join(run.options),
            minutes=sum(e["seconds"] for e in epochs) / 60,
            loss=[e["loss"] for e in epochs],
            models=_models(scores),
        )
    except DAMAGED as error:
        raise run.damaged(error) from error


def _models(scores: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The SHA-256 of each network of a run, and its accuracy in each column of the tables."""
    columns: dict[str, Any] = {}
    for name, score in scores.items():
        columns |= {name: score, f"{name}, shifted": score.get("shifted")}
    models: dict[str, dict[str, Any]] = {}
    for column, score in columns.items():
        for name in MODELS if score else ():
            one = score if name == "weights" else score.get(name)
            if one:
                model = models.setdefault(name, {"sha256": one["weights"]})
                model[column] = one["accuracy"]
    return models
