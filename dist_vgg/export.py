"""Write a trained network in a format that other programs read, at a size that travels.

python -m dist_vgg.export runs/NAME --to weights --precision int8
python -m dist_vgg.export runs/NAME --to safetensors --out NAME/ --metrics scores.json
python -m dist_vgg.export runs/NAME --to onnx
python -m dist_vgg.export runs/NAME --to html
"""

import argparse
import importlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from dist_vgg.base import machine
from dist_vgg.base.command_line import Parser, run_alone
from dist_vgg.base.errors import UserError
from dist_vgg.base.files import check_writable
from dist_vgg.formats.evidence import read_measured
from dist_vgg.formats.folder import MODEL, check_folder, write_folder
from dist_vgg.formats.safetensors import NO_INT8
from dist_vgg.formats.trained import SHIPPED, load_network, read_trained, round_weights
from dist_vgg.network.sequential import Sequential
from dist_vgg.state.precision import PRECISIONS
from dist_vgg.state.weights import Weights, save_weights

Writer = Callable[[Path, Weights, Sequential], None]
SUFFIXES = {"weights": ".h5", "safetensors": ".safetensors", "onnx": ".onnx", "html": ".html"}
# What writes the formats that need imports of their own.
WRITERS = {
    "safetensors": "dist_vgg.formats.safetensors:write_safetensors",
    "onnx": "dist_vgg.formats.onnx_graph:write_onnx",
    "html": "dist_vgg.formats.html:write_html",
}
LICENSE = "[a-z0-9][a-z0-9.+-]*"


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit status."""
    machine.settle(blas_threads=1)
    options = own_parser().parse_args(argv)
    precision = checked_precision(options)
    folder = wanted_folder(options)
    out = folder or Path(options.out or default_out(options.weights, options.to, precision))
    check_target(out, folder)
    weights = read_trained(options.weights)
    net = load_network(weights, "numpy")
    weights = round_weights(weights, net, precision)
    if folder:
        write_card(options, folder, weights, net)
        out = folder / MODEL
    else:
        writer_of(options.to)(out, weights, net)
    print(f"{out}   {out.stat().st_size:,} bytes, {precision}, parameters {weights.sha256[:16]}")
    return 0


def own_parser() -> Parser:
    """The command line of `python -m dist_vgg.export`."""
    parser = Parser(prog="python -m dist_vgg.export", description=__doc__.split("\n")[0])
    parser.add_argument(
        "weights", metavar="WEIGHTS", type=Path, nargs="?", default=SHIPPED,
        help="a file of weights, or a run's folder (default: those that are installed with the "
        "package)",
    )  # fmt: skip
    parser.add_argument(
        "--to", choices=SUFFIXES, required=True,
        help="weights: a smaller file for this program; safetensors: with torchvision's names; "
        "onnx: a graph for other runtimes; html: a page that works without any",
    )  # fmt: skip
    parser.add_argument(
        "--precision", choices=PRECISIONS,
        help="of the parameters (default: int8 for html, else float32)",
    )  # fmt: skip
    parser.add_argument(
        "--out", metavar="FILE",
        help="the file to write (default: the run's name, here); of safetensors also a folder, "
        "NAME/, which gets a config.json and a model card, README.md, as well",
    )  # fmt: skip
    card = parser.add_argument_group("the model card")
    card.add_argument(
        "--metrics", type=Path, metavar="FILE",
        help="the accuracy on it: what evaluate --json wrote of these weights",
    )  # fmt: skip
    card.add_argument(
        "--license",
        metavar="ID",
        default="mit",
        help="of the weights, as Hugging Face names it (default: mit)",
    )
    return parser


def checked_precision(options: argparse.Namespace) -> str:
    """The precision of the options, or that of the format; UserError where they disagree."""
    if options.to == "html":
        if options.precision not in (None, "int8"):
            raise UserError(f"--to html is int8, not {options.precision}; leave --precision out")
        return "int8"
    if options.to == "safetensors" and options.precision == "int8":
        raise UserError(NO_INT8)
    return str(options.precision or "float32")


def wanted_folder(options: argparse.Namespace) -> Path | None:
    """The folder that --out names, if it does; UserError where the options need one, or none."""
    out = Path(options.out or ".")
    if options.out and (options.out.endswith(os.sep) or out.is_dir()):
        if options.to == "safetensors":
            check_license(options.license)
            return out
        raise UserError(f"--to {options.to} writes a file and --out {out} is a folder; name a file")
    for name, default in (("metrics", None), ("license", "mit")):
        if getattr(options, name) != default:
            raise UserError(
                f"--{name} is for a model card, which --to safetensors writes into a folder: "
                "add --out NAME/"
            )
    return None


def check_license(license_id: str) -> None:
    """Raise UserError for what can't be a licence's id."""
    if not re.fullmatch(LICENSE, license_id):
        raise UserError(
            f"--license {license_id!r} is no licence's id; name one such as mit or apache-2.0"
        )


def check_target(out: Path, folder: Path | None) -> None:
    """Raise UserError, before any work is done, where the target could not be written."""
    if folder:
        check_folder(folder)
        out = folder / MODEL if folder.is_dir() else folder
    check_writable("--out", out)


def default_out(weights: Path, to: str, precision: str) -> Path:
    """A name in the current folder: of the run or file, with the precision where it is reduced."""
    stem = (weights.resolve() if weights.is_dir() else weights.with_suffix("")).name
    marked = f"{stem}-{precision}" if precision != "float32" and to != "html" else stem
    return Path(marked + SUFFIXES[to])


def writer_of(to: str) -> Writer:
    """The function that writes the format that --to names."""
    if to == "weights":
        return lambda path, weights, net: save_weights(path, weights)
    module, _, name = WRITERS[to].partition(":")
    writer: Writer = getattr(importlib.import_module(module), name)
    return writer


def write_card(
    options: argparse.Namespace, folder: Path, weights: Weights, net: Sequential
) -> None:
    """Write a folder with a model card."""
    measured = read_measured(options.metrics, weights) if options.metrics else None
    source = options.weights if options.weights.is_dir() else options.weights.parent
    write_folder(folder, weights, net, source, options.license, measured)


if __name__ == "__main__":
    run_alone("dist_vgg.export", main)
