"""The command line of data_prep."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from data_prep.sources import SOURCES
from dist_vgg.base.command_line import Parser

# What to use instead of options that other programs have.
HINTS = {
    name: f"did you mean {option}?"
    for names, option in (
        ("ranks workers num-workers np n files", "--shards"),
        ("samples images count num train-size subset", "--limit"),
        ("input data mnist path folder", "--raw"),
        ("output output-dir out-dir", "--out"),
        ("force replace", "--overwrite"),
        ("pixels side resize image-size", "--size"),
        ("verify", "--check"),
        ("validation val val-size", "--held-out"),
    )
    for name in names.split()
}
MAX_SIZE = 1024  # side of an image; with larger ones the set fits into no memory


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Help that shows the defaults, where there are any."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return super()._get_help_string(action) if action.default else action.help


def parse(argv: Sequence[str], description: str) -> argparse.Namespace:
    """Read the command line; UserError where it makes no sense."""
    parser = Parser(
        prog="python -m data_prep", hints=HINTS, description=description, formatter_class=_Help
    )
    _add_source(parser)
    _add_content(parser)
    _add_output(parser)
    args = parser.parse_args(argv)
    if args.check is not None and args != parser.parse_args(["--check", str(args.check)]):
        parser.error("--check verifies a folder and takes no other option")
    if args.limit is not None and args.limit < args.shards:
        parser.error(f"--limit {args.limit} leaves some of --shards {args.shards} empty")
    return args


def _add_source(parser: Parser) -> None:
    add = parser.add_argument_group("where from").add_argument
    add(
        "--source",
        choices=SOURCES,
        default="auto",
        help="auto: MNIST, or scikit-learn's digits where it can't be had",
    )
    add(
        "--raw",
        type=Path,
        metavar="DIR",
        help="folder with MNIST's four IDX files, gzipped or not; "
        "without it they come from the cache (DIST_VGG_CACHE) or a mirror (DIST_VGG_MIRRORS)",
    )


def _add_content(parser: Parser) -> None:
    add = parser.add_argument_group("what").add_argument
    add(
        "--limit",
        type=_integer(1),
        metavar="N",
        help="use only N training images, equally many of each class; the test set stays whole",
    )
    add(
        "--held-out",
        type=_integer(1),
        metavar="N",
        help="in place of the test set, N training images that are not used: to choose a recipe by",
    )
    add(
        "--size",
        type=_integer(32, MAX_SIZE, 32),
        default=64,
        metavar="PIXELS",
        help="side of the enlarged images, a multiple of 32",
    )
    add(
        "--seed",
        type=_integer(0, 2**63 - 1),
        default=0,
        metavar="N",
        help="seed of the shuffle (default: 0)",
    )


def _add_output(parser: Parser) -> None:
    add = parser.add_argument_group("where to").add_argument
    add("--out", type=Path, default=Path("data"), metavar="DIR", help="folder for the shards")
    add(
        "--shards",
        type=_integer(1),
        default=8,
        metavar="N",
        help="files in each split: the most ranks that can train on them",
    )
    add("--overwrite", action="store_true", help="replace the shards that the folder holds")
    parser.add_argument_group("instead").add_argument(
        "--check", type=Path, metavar="DIR", help="verify the shards in a folder, change nothing"
    )


def _integer(least: int, most: int | None = None, multiple: int = 1) -> Callable[[str], int]:
    """An argparse type: an integer from `least` to `most` that is a multiple of `multiple`."""

    def integer(text: str) -> int:
        what = f"a multiple of {multiple}" if multiple > 1 else "an integer"
        bounds = f"from {least}" + (f" to {most}" if most else " up")
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least or (most and value > most) or value % multiple:
            raise argparse.ArgumentTypeError(f"must be {what} {bounds}, not {text}")
        return value

    return integer
