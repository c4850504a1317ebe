"""Evaluate trained weights on a data set: each image once, at any number of ranks.

python -m dist_vgg.evaluate runs/NAME
mpirun -n 2 python -m dist_vgg.evaluate runs/NAME/weights.h5 --data data
mpirun -n 2 python -m dist_vgg.evaluate runs/NAME --shifts 2

A run's folder stands for all weights in it: those of the last step, their moving average (--ema)
and the best on held-out images (--patience). Each has a score of its own.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dist_vgg.base import machine
from dist_vgg.base.command_line import Parser
from dist_vgg.base.errors import UserError
from dist_vgg.base.files import check_writable, write_text
from dist_vgg.base.progress import Progress
from dist_vgg.data.batches import load_local
from dist_vgg.data.dataset import open_set
from dist_vgg.data.samples import SPLITS
from dist_vgg.data.set_info import SetInfo
from dist_vgg.mpi.collectives import collective_errors, require_same
from dist_vgg.mpi.command import run_command
from dist_vgg.runs.fields import LARGEST, flag
from dist_vgg.state.checkpoint import Weights, load_weights, weights_in
from dist_vgg.training.pretrained import load_network
from dist_vgg.training.scoring import Score, around, score

if TYPE_CHECKING:
    from mpi4py import MPI


def line(score: Score, name: str, moves: int) -> str:
    """A score in a line that says of what it is."""
    whose = "" if name == "weights" else f" of the {name}"
    over = "" if moves == 1 else f" over {moves} shifts"
    return (
        f"accuracy{whose}{over} {score.accuracy:.2%} ({score.right:,} of {score.total:,}), "
        f"loss {score.loss:.4f}"
    )


def matrix(score: Score) -> str:
    """The confusion matrix with each class's recall, as a table."""
    classes = range(len(score.confusion))
    lines = ["true \\ predicted" + "".join(f"{k:>6}" for k in classes) + "  recall"]
    for k, row in enumerate(score.confusion):
        recall = f"{row[k] / row.sum():.1%}" if row.sum() else "-"
        lines.append(f"{k:>16}" + "".join(f"{n:>6}" for n in row) + f"{recall:>8}")
    return "\n".join(lines)


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
        "--limit", type=int, default=0, metavar="N", help="only so many images (default: 0, all)"
    )
    parser.add_argument(
        "--shifts", type=int, default=0, metavar="PIXELS",
        help="also average the predictions over the image and eight shifts of it by so many "
        "pixels: nine times the work, and a score of its own (default: 0, don't)",
    )  # fmt: skip
    return parser


def main(argv: Sequence[str], comm: "MPI.Intracomm") -> int:
    """Run the command; returns its exit status."""
    machine.settle(blas_threads=1)
    with collective_errors(comm):
        options = own_parser().parse_args(argv)
        paths = weights_in(options.weights)
        models = {name: load_weights(path) for name, path in paths.items()}
        nets = {name: load_network(weights) for name, weights in models.items()}
        info = open_set(options.data)
        for weights in models.values():
            check_fits(weights, info, options.data)
        if not 0 <= options.limit <= LARGEST:
            raise UserError(
                f"--limit {options.limit} is out of range: it must be from 0 to {LARGEST}"
            )
        if not 0 <= options.shifts < info.size:
            raise UserError(
                f"--shifts {options.shifts} is out of range: it must be from 0 to {info.size - 1}"
            )
        if options.json and comm.rank == 0:
            check_writable("--json", options.json)
    compared = {name: weights.sha256[:16] for name, weights in models.items()}
    compared |= {flag(name): getattr(options, name) for name in ("split", "limit", "shifts")}
    require_same(comm, {**compared, **info.facts()}, "start all ranks with the same")
    require_same(comm, machine.facts(), machine.MEND)
    with collective_errors(comm):
        shards = load_local(options.data, info, options.split, options.limit, comm.size, comm.rank)
    for name, weights in models.items():
        print(
            f"{name:<7} {paths[name]}, {weights.sha256[:16]}, step {weights.step}, "
            f"trained on {weights.source}"
        )
    images = info.test_name if options.split == "test" else options.split
    print(f"data    {options.data}, {images}: {info.source}, {info.digest[:16]}\n", flush=True)

    result: dict[str, Any] = dict(dataset=info.digest, split=options.split, images=images)
    scores = {}
    for shifts in sorted({0, options.shifts}):
        moves = around(shifts)
        own = result.setdefault("shifted", dict(shifts=shifts)) if shifts else result
        for name, weights in models.items():
            count = sum(map(len, shards.values()))
            progress = Progress(count, "none" if comm.rank else "auto")

            def done(images: int, progress: Progress = progress) -> None:
                progress.update(images, "evaluated, of the images of rank 0")

            mean, std = weights.mean, weights.std
            found = score(nets[name], shards, mean, std, info.classes, comm, moves, done)
            progress.close()
            print(line(found, name, len(moves)), flush=True)
            scores[name, shifts] = found
            (own if name == "weights" else own.setdefault(name, {})).update(
                weights=weights.sha256,
                accuracy=found.accuracy,
                loss=found.loss,
                confusion=found.confusion.tolist(),
            )
    print(f"\n{matrix(scores['weights', 0])}")
    if options.json:
        with collective_errors(comm):
            if comm.rank == 0:
                write_text(options.json, json.dumps(result, indent=2) + "\n")
    return 0


def check_fits(weights: Weights, info: SetInfo, folder: Path) -> None:
    """Raise UserError where the network can't take the images or classes of a data set."""
    for name, found in (
        ("size", info.size),
        ("channels", info.channels),
        ("classes", info.classes),
    ):
        wanted = weights.network[name]
        if wanted != found:
            raise UserError(
                f"the weights are for {name} {wanted} and {folder} has {name} {found}; "
                "prepare or name another folder with --data"
            )


if __name__ == "__main__":
    run_command("dist_vgg.evaluate", main, own_parser)
