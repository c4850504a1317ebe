"""Evaluate trained weights on a data set: each image once, at any number of ranks.

python -m dist_vgg.evaluate runs/NAME
mpirun -n 2 python -m dist_vgg.evaluate runs/NAME/weights.h5 --data data
mpirun -n 2 python -m dist_vgg.evaluate runs/NAME --shifts 2

A run's folder stands for all weights in it: those of the last step, their moving average (--ema)
and the best on held-out images (--patience). Each gets a score of its own.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_vgg.base import machine
from dist_vgg.base.command_line import Parser
from dist_vgg.base.errors import UserError
from dist_vgg.base.files import check_writable, write_text
from dist_vgg.base.progress import Progress
from dist_vgg.base.table import table
from dist_vgg.data.batches import load_local
from dist_vgg.data.dataset import check_split, open_set
from dist_vgg.data.samples import SPLITS, Samples
from dist_vgg.data.set_info import SetInfo
from dist_vgg.formats.trained import load_network, read_trained, trained_in
from dist_vgg.kernels.sets import (
    AUTO,
    CHOICES,
    HELP,
    OWN,
    PRECISION_HELP,
    PRECISIONS,
    load,
    set_for,
    unit,
)
from dist_vgg.mpi.collectives import collective_errors, require_same
from dist_vgg.mpi.command import run_command
from dist_vgg.network.sequential import Sequential
from dist_vgg.runs.fields import LARGEST, flag
from dist_vgg.state.weights import Weights
from dist_vgg.training.scoring import Score, score, shifts_by
from dist_vgg.training.setup import reads_on_demand, require_same_kernels

if TYPE_CHECKING:
    from mpi4py import MPI

WIDEST = 20  # classes of a confusion matrix, and pairs that are named of more
Scores = Mapping[tuple[int, str], Score]  # by shifts (0 for none) and the model's name


@dataclass(frozen=True)
class LoadedModel:
    """A network to score, and where its weights come from."""

    path: Path
    weights: Weights
    net: Sequential


def main(argv: Sequence[str], comm: "MPI.Intracomm") -> int:
    """Run the command; returns its exit status."""
    machine.settle(blas_threads=1)
    with collective_errors(comm):
        options = own_parser().parse_args(argv)
        models = load_models(options.weights, options.kernels, options.precision)
        info = open_set(options.data, whole=False)
        check(options, models, info)
        if options.json and comm.rank == 0:
            check_writable("--json", options.json)
    require_same_work(options, models, info, comm)
    on_demand = reads_on_demand(comm, info, [options.split])
    with collective_errors(comm):
        shards = load_local(
            options.data, info, options.split, options.limit, comm.size, comm.rank, on_demand
        )
    print_inputs(options, models, info)
    scores = score_all(models, shards, info, options.shifts, comm)
    print(f"\n{confusion_table(scores[0, 'weights'], names_of(models, info))}")
    if options.json:
        with collective_errors(comm):
            if comm.rank == 0:
                result = as_json(options, models, info, scores)
                write_text(options.json, json.dumps(result, indent=2) + "\n")
    return 0


def own_parser() -> Parser:
    """The command line of `python -m dist_vgg.evaluate`."""
    parser = Parser(prog="python -m dist_vgg.evaluate", description=__doc__.split("\n")[0])
    parser.add_argument(
        "weights", metavar="WEIGHTS", type=Path, help="weights.h5, or a run's folder"
    )
    parser.add_argument(
        "--data", type=Path, default=Path("data"), help="folder of shards (default: data)"
    )
    parser.add_argument(
        "--split", choices=SPLITS, default="test", help="which images (default: test)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result here")
    parser.add_argument(
        "--limit", type=int, default=0, metavar="N", help="only N images (default: 0, all)"
    )
    parser.add_argument(
        "--shifts", type=int, default=0, metavar="PIXELS",
        help="also average the predictions over the image and its eight shifts by so many pixels: "
        "nine times the work, and a score of its own (default: 0, don't)",
    )  # fmt: skip
    parser.add_argument("--kernels", choices=CHOICES, default=AUTO, help=f"{HELP} (default: auto)")
    parser.add_argument("--precision", choices=PRECISIONS, default=OWN, help=PRECISION_HELP)
    return parser


def load_models(place: Path, kernels: str = AUTO, precision: str = OWN) -> dict[str, LoadedModel]:
    """The networks of a folder or of one file, by name: "weights", "average", "best"."""
    found = {name: (path, read_trained(path)) for name, path in trained_in(place).items()}
    ops = load(set_for(found["weights"][1].kernels, kernels, precision))
    return {
        name: LoadedModel(path, weights, load_network(weights, ops))
        for name, (path, weights) in found.items()
    }


def check(options: argparse.Namespace, models: Mapping[str, LoadedModel], info: SetInfo) -> None:
    """Raise UserError where the models do not fit the data set, or a number is out of range."""
    for model in models.values():
        for name in ("size", "channels", "classes"):
            wanted, found = model.weights.network[name], getattr(info, name)
            if wanted != found:
                raise UserError(
                    f"the weights are for {name} {wanted} and {options.data} has {name} {found}; "
                    "prepare or name another folder with --data"
                )
    check_names(models["weights"].weights.class_names, info, options.data)
    check_split(info, options.split, options.data)
    for name, most in (("limit", LARGEST), ("shifts", info.size - 1)):
        value = getattr(options, name)
        if not 0 <= value <= most:
            raise UserError(f"{flag(name)} {value} is out of range: it must be from 0 to {most}")


def check_names(names: Sequence[str], info: SetInfo, folder: Path) -> None:
    """Raise UserError where the weights know other classes than the data set has."""
    if names and info.class_names:
        for own, other in zip(names, info.class_names, strict=True):
            if own != other:
                raise UserError(
                    f"the weights know a class {own} where {folder} has {other}; "
                    "prepare or name another folder with --data"
                )


def require_same_work(
    options: argparse.Namespace,
    models: Mapping[str, LoadedModel],
    info: SetInfo,
    comm: "MPI.Intracomm",
) -> None:
    """Raise UserError on all ranks where they differ in weights, options, data or machine."""
    compared = {name: model.weights.sha256[:16] for name, model in models.items()}
    compared |= {flag(name): getattr(options, name) for name in ("split", "limit", "shifts")}
    require_same(comm, {**compared, **info.facts()}, "start all ranks with the same")
    require_same_kernels(comm, models["weights"].net.ops)


def print_inputs(
    options: argparse.Namespace, models: Mapping[str, LoadedModel], info: SetInfo
) -> None:
    """Say which weights are scored on which images."""
    for name, model in models.items():
        weights = model.weights
        print(
            f"{name:<7} {model.path}, {weights.sha256[:16]}, step {weights.step}, "
            f"trained on {weights.source}{origin(weights)}"
        )
    ops = models["weights"].net.ops
    if how := unit(ops):
        print(f"kernels {ops.NAME} {ops.VERSION} ({', '.join(how)})")
    images = images_of(options.split, info)
    print(f"data    {options.data}, {images}: {info.source}, {info.digest[:16]}\n", flush=True)


def origin(weights: Weights) -> str:
    """Of weights that were rounded to travel: to what, and from which parameters."""
    if weights.precision == "float32":
        return ""
    return f", {weights.precision} of {weights.made_from[:16]}"


def images_of(split: str, info: SetInfo) -> str:
    """What the result calls the images of a split."""
    return info.test_name if split == "test" else split


def score_all(
    models: Mapping[str, LoadedModel],
    shards: Mapping[int, Samples],
    info: SetInfo,
    shifts: int,
    comm: "MPI.Intracomm",
) -> Scores:
    """Score every model, first as the images are, then over shifts; print each score."""
    scores = {}
    for pixels in sorted({0, shifts}):
        for name, model in models.items():
            progress = Progress(sum(map(len, shards.values())), "none" if comm.rank else "auto")

            def done(images: int, progress: Progress = progress) -> None:
                progress.update(images, "evaluated, of the images of rank 0")

            tried, weights = shifts_by(pixels), model.weights
            found = score(
                model.net, shards, weights.mean, weights.std, info.classes, comm, tried, done
            )
            progress.close()
            print(score_line(found, name, len(tried)), flush=True)
            scores[pixels, name] = found
    return scores


def score_line(score: Score, name: str, shifts: int) -> str:
    """A model's score in one line."""
    whose = "" if name == "weights" else f" of the {name}"
    over = "" if shifts == 1 else f" over {shifts} shifts"
    return (
        f"accuracy{whose}{over} {score.accuracy:.2%} ({score.right:,} of {score.total:,}), "
        f"loss {score.loss:.4f}"
    )


def names_of(models: Mapping[str, LoadedModel], info: SetInfo) -> tuple[str, ...]:
    """The names of the classes, where the weights or the data have them."""
    return models["weights"].weights.class_names or info.class_names


def confusion_table(score: Score, names: Sequence[str] = ()) -> str:
    """The confusion matrix, with the recall of each class; of many classes the worst confusions."""
    if len(score.confusion) > WIDEST:
        return most_confused(score, names)
    classes = range(len(score.confusion))
    called = [f"{names[k]}  {k}" if names else f"{k}" for k in classes]
    corner = "true \\ predicted"
    width = max(len(word) for word in [corner, *called])
    lines = [f"{corner:>{width}}" + "".join(f"{k:>6}" for k in classes) + "  recall"]
    for k, row in enumerate(score.confusion):
        recall = f"{row[k] / row.sum():.1%}" if row.sum() else "-"
        lines.append(f"{called[k]:>{width}}" + "".join(f"{n:>6}" for n in row) + f"{recall:>8}")
    return "\n".join(lines)


def most_confused(score: Score, names: Sequence[str]) -> str:
    """The pairs of classes that are most often confused, and how often."""
    wrong = score.confusion * (1 - np.eye(len(score.confusion), dtype=int))
    order = np.argsort(-wrong, axis=None, kind="stable")[:WIDEST]
    pairs = [divmod(int(place), len(wrong)) for place in order]
    called = names or [str(k) for k in range(len(wrong))]
    rows = [
        [called[true], called[found], f"{wrong[true, found]} of {score.confusion[true].sum()}"]
        for true, found in pairs
        if wrong[true, found]
    ]
    if not rows:
        return "no image was taken for one of another class"
    return table(["true", "predicted", "images"], rows)


def as_json(
    options: argparse.Namespace, models: Mapping[str, LoadedModel], info: SetInfo, scores: Scores
) -> dict[str, Any]:
    """What --json writes: the score of "weights", and within it those of the others."""
    images = images_of(options.split, info)
    result: dict[str, Any] = dict(dataset=info.digest, split=options.split, images=images)
    if names := names_of(models, info):
        result["class_names"] = names
    for (pixels, name), found in scores.items():
        own = result.setdefault("shifted", dict(shifts=pixels)) if pixels else result
        (own if name == "weights" else own.setdefault(name, {})).update(
            weights=models[name].weights.sha256,
            precision=models[name].weights.precision,
            accuracy=found.accuracy,
            loss=found.loss,
            confusion=found.confusion.tolist(),
        )
    return result


if __name__ == "__main__":
    run_command("dist_vgg.evaluate", main, own_parser)
