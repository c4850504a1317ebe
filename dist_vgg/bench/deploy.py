"""Trained networks as they travel: bytes and accuracy by precision, images/s, ms for one image."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_vgg.base.errors import UserError
from dist_vgg.base.progress import Progress
from dist_vgg.base.random import generator
from dist_vgg.base.table import table
from dist_vgg.bench.comparison import in_turns
from dist_vgg.bench.frontier import Frontier, Point
from dist_vgg.bench.options import add_choice, add_rounds
from dist_vgg.bench.processes import output_of, worker_command
from dist_vgg.bench.readings import Readings, per_second
from dist_vgg.bench.report import Report
from dist_vgg.data.samples import SPLITS, normalise
from dist_vgg.formats.html import write_html
from dist_vgg.formats.trained import load_network, read_trained, round_weights
from dist_vgg.kernels.sets import CHOICES, HELP, load
from dist_vgg.network.sequential import Sequential
from dist_vgg.network.vgg import VGG16
from dist_vgg.state.precision import PRECISIONS
from dist_vgg.state.weights import Weights, save_weights
from dist_vgg.training.scoring import BATCH

if TYPE_CHECKING:
    from mpi4py import MPI

HEADER = ("", "", "bytes", "accuracy", "right", "images/s", "ms, one image", "parameters")
EQUAL = f"""\
A file's parameters are read into float32 whatever its precision, and the network computes in
float32. So speed is measured once for each network: in one process with one BLAS thread,
{BATCH} images at a time, and one image alone."""


@dataclass(frozen=True)
class Trained:
    """A network to measure, and the file or folder that its weights are from."""

    path: Path
    weights: Weights
    net: Sequential


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument(
        "weights", metavar="WEIGHTS", type=Path, nargs="+",
        help="files of float32 weights, or folders of runs",
    )  # fmt: skip
    parser.add_argument(
        "--data", type=Path, default=Path("data"), help="folder of shards (default: data)"
    )
    parser.add_argument(
        "--split", choices=SPLITS, default="test", help="which images (default: test)"
    )
    parser.add_argument(
        "--limit", type=int, default=0, metavar="N", help="score only N images (default: 0, all)"
    )
    add_choice(parser, "--kernels", CHOICES, HELP)
    add_rounds(parser, "network")


def run(options: argparse.Namespace) -> Report:
    """Export each network in each precision and score it; then measure the networks in turns."""
    kernels = load(options.kernels).NAME  # refuses what is not installed
    networks = read_all(options.weights)
    with closing(Progress(len(networks) * (len(PRECISIONS) + options.repeat))) as progress:
        files = export_and_score(networks, options, progress)
        speeds = measure_speeds(networks, options, progress)
    entries = {}
    for label, one in networks.items():
        entries[label] = dict(
            path=one.path,
            network=one.weights.network,
            parameters=one.weights.params.size,
            files=files[label],
            **speeds[label],
        )
    text = "\n\n".join([_table(entries), f"kernels {kernels}", EQUAL])
    return Report(text, dict(networks=entries, kernels=kernels), _picture(entries))


def read_all(paths: Sequence[Path]) -> dict[str, Trained]:
    """The networks by their labels, the smallest first; UserError where one can't be measured."""
    networks = []
    for path in dict.fromkeys(paths):
        weights = read_trained(path)
        if weights.precision != PRECISIONS[0]:
            raise UserError(
                f"{path} holds {weights.precision} parameters; name the float32 weights that they "
                "were made from"
            )
        networks.append(Trained(path, weights, load_network(weights, "numpy")))
    networks.sort(key=lambda one: one.weights.params.size)
    labels = [_label(one.weights.network) for one in networks]
    if len(set(labels)) < len(labels):
        labels = [str(one.path) for one in networks]
    return dict(zip(labels, networks, strict=True))


def export_and_score(
    networks: Mapping[str, Trained], options: argparse.Namespace, progress: Progress
) -> dict[str, dict[str, dict[str, Any]]]:
    """Bytes and score by network and precision; of the page, bytes only."""
    found: dict[str, dict[str, dict[str, Any]]] = {label: {} for label in networks}
    with TemporaryDirectory(prefix="bench-deploy-") as folder:
        # One precision after another, so that a network that the data don't fit is refused early.
        for precision in PRECISIONS:
            for label, one in networks.items():
                path = Path(folder) / "weights.h5"
                weights = round_weights(one.weights, one.net, precision)
                save_weights(path, weights)
                found[label][precision] = dict(
                    bytes=path.stat().st_size, sha256=weights.sha256, **_score(path, options)
                )
                progress.update(1, f"{label} in {precision} is scored")
                if precision == "int8":
                    page = Path(folder) / "page.html"
                    with suppress(UserError):  # not every network has a page
                        write_html(page, weights, one.net)
                        found[label]["html"] = dict(bytes=page.stat().st_size)
    return found


def _score(path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """What `evaluate` says of a file of weights."""
    result = path.with_name("score.json")
    output_of(
        "evaluate",
        [
            *(sys.executable, "-m", "dist_vgg.evaluate", str(path), "--json", str(result)),
            *("--data", str(options.data), "--split", options.split),
            *("--limit", str(options.limit), "--kernels", options.kernels),
        ],
    )
    found = json.loads(result.read_text())
    confusion = np.array(found["confusion"])
    return dict(
        accuracy=found["accuracy"],
        right=int(confusion.trace()),
        total=int(confusion.sum()),
        images=found["images"],
        dataset=found["dataset"],
    )


def measure_speeds(
    networks: Mapping[str, Trained], options: argparse.Namespace, progress: Progress
) -> dict[str, dict[str, Readings]]:
    """Images/s and ms for one image of each network, in turns."""
    settings = dict(seconds=options.seconds, kernels=options.kernels)
    commands = {
        label: worker_command(1, "deploy", path=str(one.path), **settings)
        for label, one in networks.items()
    }
    found = in_turns(
        commands,
        options.repeat,
        lambda label, one: progress.update(1, f"{label}: {one['images_per_s']:.0f} images/s"),
    )
    return {
        label: {name: Readings.of(one[name] for one in rounds) for name in rounds[0]}
        for label, rounds in found.items()
    }


def measure(comm: "MPI.Intracomm", path: str, seconds: float, kernels: str) -> dict[str, Any]:
    """Make forward passes of random images for so many seconds in batches, then one by one."""
    weights = read_trained(path)
    net = load_network(weights, kernels)
    shape = (BATCH, weights.network["size"], weights.network["size"], weights.network["channels"])
    pixels = generator(0, "bench/images").integers(0, 256, shape, np.uint8)

    def forward(images: np.ndarray) -> np.ndarray:
        return net.forward(normalise(images, weights.mean, weights.std))

    forward(pixels)
    rate = BATCH * per_second(seconds, forward, pixels)
    forward(pixels[:1])
    return dict(images_per_s=rate, ms=1e3 * _median_seconds(partial(forward, pixels[:1]), seconds))


def _median_seconds(operation: Callable[[], object], seconds: float) -> float:
    """The median time of an operation, over at least so many seconds."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        operation()
        times.append(time.perf_counter() - start)
    return median(times)


def _label(network: Mapping[str, Any]) -> str:
    """A network's width, and its name where it is not the usual one."""
    name = network.get("name", VGG16)
    return f"width {network['width']:g}" if name == VGG16 else f"{name}, {network['width']:g}"


def _table(entries: Mapping[str, Mapping[str, Any]]) -> str:
    """A row for each network and precision; speed in the first row of each network."""
    rows = []
    for label, one in entries.items():
        head, speed = label, [str(one["images_per_s"]), str(one["ms"])]
        for kind, file in one["files"].items():
            row = [head, kind, f"{file['bytes']:,}"]
            if "total" in file:
                right = f"{file['right']:,} of {file['total']:,}"
                row += [f"{file['accuracy']:.2%}", right, *speed, file["sha256"][:16]]
            rows.append(row + [""] * (len(HEADER) - len(row)))
            head, speed = "", ["", ""]
    return table(HEADER, rows)


def _picture(entries: Mapping[str, Mapping[str, Any]]) -> Frontier:
    """The picture of all networks."""
    points = {
        label: {
            name: Point(file["bytes"], file["total"] - file["right"], file["total"])
            for name, file in one["files"].items()
            if name in PRECISIONS
        }
        for label, one in entries.items()
    }
    scored = entries[next(iter(entries))]["files"][PRECISIONS[0]]  # all are scored on the same
    return Frontier(points, f"{scored['total']:,} {scored['images']} images")
