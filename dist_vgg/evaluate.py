"""Evaluate trained weights on a data set: each image once, at any number of ranks.

python -m dist_vgg.evaluate runs/NAME
mpirun -n 2 python -m dist_vgg.evaluate runs/NAME/weights.h5 --data data
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_vgg import functional as F
from dist_vgg.batches import load_hosted
from dist_vgg.checkpoint import Weights, load_weights
from dist_vgg.comm import add_up, run_command, together
from dist_vgg.config import LARGEST, Parser
from dist_vgg.errors import UserError
from dist_vgg.files import check_writable, write_text
from dist_vgg.layers import Sequential
from dist_vgg.machine import settle
from dist_vgg.progress import Progress
from dist_vgg.shards import SPLITS, Samples, SetInfo, normalise, open_set
from dist_vgg.vgg import vgg16

if TYPE_CHECKING:
    from mpi4py import MPI

BATCH = 32  # images at a time; fixed, since BLAS may round differently for other shapes


def load_network(weights: Weights) -> Sequential:
    """The network that the weights belong to, ready for forward passes."""
    net = vgg16(**weights.network, dropout=0)
    if weights.params.shape != (net.parameter_count,):
        raise UserError(
            f"the weights hold {weights.params.size} parameters and their network has "
            f"{net.parameter_count}; name another file"
        )
    net.bind(weights.params, weights.params)
    return net


def evaluate(
    net: Sequential, weights: Weights, shards: Mapping[int, Samples], comm: "MPI.Intracomm"
) -> tuple[np.ndarray, float]:
    """The confusion matrix (true class, predicted class), and the mean loss.

    Every rank brings its shards; all get the same result, the same at any number of ranks.
    """
    classes = weights.network["classes"]
    confusion = np.zeros((classes, classes))
    losses = np.zeros(add_up(comm, np.array([len(shards)]))[0])
    progress = Progress(sum(map(len, shards.values())), "none" if comm.rank else "auto")
    for index, samples in shards.items():
        for start in range(0, len(samples), BATCH):
            part = samples[start : start + BATCH]
            logits = net.forward(normalise(part.pixels, weights.mean, weights.std))
            np.add.at(confusion, (part.labels, logits.argmax(axis=1)), 1)
            losses[index] += F.cross_entropy(logits, part.labels, 1)[0].sum(dtype=np.float64)
            progress.update(len(part), "evaluated, of the images of rank 0")
    progress.close()
    # Counts are whole numbers, and each shard's loss comes from one rank: no order matters.
    add_up(comm, confusion)
    add_up(comm, losses)
    return confusion.astype(int), float(losses.sum() / confusion.sum())


def report(confusion: np.ndarray, loss: float) -> str:
    """Accuracy, loss and the confusion matrix with each class's recall, as a table."""
    total, right = confusion.sum(), np.trace(confusion)
    lines = [
        f"accuracy {right / total:.2%} ({right:,} of {total:,}), loss {loss:.4f}",
        "",
        "true \\ predicted" + "".join(f"{k:>6}" for k in range(len(confusion))) + "  recall",
    ]
    for k, row in enumerate(confusion):
        recall = f"{row[k] / row.sum():.1%}" if row.sum() else "-"
        lines.append(f"{k:>16}" + "".join(f"{n:>6}" for n in row) + f"{recall:>8}")
    return "\n".join(lines)


def main(argv: Sequence[str], comm: "MPI.Intracomm") -> int:
    """Run the command; returns its exit status."""
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
    options = parser.parse_args(argv)
    settle(blas_threads=1)
    with together(comm):
        weights = load_weights(options.weights)
        net = load_network(weights)
        info = open_set(options.data)
        check_fits(weights, info, options.data)
        if not 0 <= options.limit <= LARGEST:
            raise UserError(
                f"--limit {options.limit} is out of range: it must be from 0 to {LARGEST}"
            )
        if options.json and comm.rank == 0:
            check_writable("--json", options.json)
    shards = load_hosted(options.data, info, options.split, options.limit, comm)
    confusion, loss = evaluate(net, weights, shards, comm)
    print(
        f"weights {options.weights}, {weights.sha256[:16]}, step {weights.step}, "
        f"trained on {weights.source}\n"
        f"data    {options.data}, {options.split}: {info.source}, {info.digest[:16]}\n"
    )
    print(report(confusion, loss))
    if options.json:
        result: dict[str, Any] = dict(
            weights=weights.sha256,
            dataset=info.digest,
            split=options.split,
            accuracy=float(np.trace(confusion) / confusion.sum()),
            loss=loss,
            confusion=confusion.tolist(),
        )
        with together(comm):
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
    run_command("dist_vgg.evaluate", main)
