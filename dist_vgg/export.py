"""Write a trained network in a format that other programs read, at a size that travels.

python -m dist_vgg.export runs/NAME --to weights --precision int8
python -m dist_vgg.export runs/NAME --to safetensors --out NAME/
python -m dist_vgg.export runs/NAME --to onnx
python -m dist_vgg.export runs/NAME --to html
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from dist_vgg.base import machine
from dist_vgg.base.command_line import Parser, run_alone
from dist_vgg.base.errors import UserError
from dist_vgg.base.files import check_writable
from dist_vgg.formats.trained import SHIPPED, load_network, read_trained, round_weights
from dist_vgg.network.sequential import Sequential
from dist_vgg.state.precision import PRECISIONS
from dist_vgg.state.weights import Weights, save_weights

SUFFIXES = {"weights": ".h5", "safetensors": ".safetensors", "onnx": ".onnx", "html": ".html"}


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit status."""
    machine.settle(blas_threads=1)
    options = own_parser().parse_args(argv)
    precision = checked_precision(options)
    out = options.out or default_out(options.weights, options.to, precision)
    check_writable("--out", out)
    weights = read_trained(options.weights)
    net = load_network(weights, "numpy")
    weights = round_weights(weights, net, precision)
    write(options, out, weights, net)
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
        "--out", type=Path, metavar="FILE", help="the file to write (default: the run's name, here)"
    )
    return parser


def checked_precision(options: argparse.Namespace) -> str:
    """The precision of the options, or that of the format; UserError where they disagree."""
    if options.to == "html":
        if options.precision not in (None, "int8"):
            raise UserError(f"--to html is int8, not {options.precision}; leave --precision out")
        return "int8"
    return str(options.precision or "float32")


def default_out(weights: Path, to: str, precision: str) -> Path:
    """A name in the current folder: of the run or file, with the precision where it is reduced."""
    stem = (weights.resolve() if weights.is_dir() else weights.with_suffix("")).name
    marked = f"{stem}-{precision}" if precision != "float32" and to != "html" else stem
    return Path(marked + SUFFIXES[to])


def write(options: argparse.Namespace, out: Path, weights: Weights, net: Sequential) -> None:
    """Write the file of the format that --to names."""
    if options.to == "weights":
        save_weights(out, weights)
    else:
        raise UserError(f"--to {options.to} is not there yet")


if __name__ == "__main__":
    run_alone("dist_vgg.export", main)
