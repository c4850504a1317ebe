"""The command line of data_prep."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from data_prep.sources import SOURCES
from dist_vgg.base.bounds import MAX_SIZE, PREPARATIONS
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
        ("test-size test-split test-fraction", "--test-share"),
        ("skip-errors ignore-errors", "--skip-bad"),
        ("colour color colours mode", "--channels"),
        ("resize-mode", "--fit"),
    )
    for name in names.split()
}


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
    for name in ("test_share", "skip_bad"):
        if getattr(args, name) and args.source != "images":
            parser.error(f"--{name.replace('_', '-')} is for --source images")
    if args.limit is not None and args.limit < args.shards:
        parser.error(f"--limit {args.limit} leaves some of --shards {args.shards} empty")
    return args


def _add_source(parser: Parser) -> None:
    add = parser.add_argument_group("where from").add_argument
    add(
        "--source",
        choices=SOURCES,
        default="auto",
        help="auto: MNIST, or scikit-learn's digits where it can't be had; idx, images and npz are "
        "files of your own",
    )
    add(
        "--raw",
        type=Path,
        metavar="DIR",
        help="folder with MNIST's four IDX files, gzipped or not, or those of the source: four IDX "
        "files, pictures as train/CLASS/* and test/CLASS/*, or an npz file; without it known sets "
        "come from the cache (DIST_VGG_CACHE) or a mirror (DIST_VGG_MIRRORS)",
    )
    add(
        "--test-share",
        type=_share,
        metavar="SHARE",
        help="for images in one folder per class: the share of each class that is for the test",
    )
    add(
        "--skip-bad",
        action="store_true",
        help="leave out pictures that can't be read, and say how many",
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
        help="keep N training images out of the training, as a split of their own: to choose a "
        "recipe by, and when to stop",
    )
    add(
        "--size",
        type=_integer(32, MAX_SIZE, 32),
        default=64,
        metavar="PIXELS",
        help="side of the images as the network gets them, a multiple of 32",
    )
    add(
        "--channels",
        type=int,
        choices=(1, 3),
        help="1: grey, 3: red, green and blue (default: what the source has; for images 3)",
    )
    add(
        "--fit",
        choices=PREPARATIONS[1:],
        help="how an image that is not square becomes so: scaled and its middle cut out, scaled "
        "with black around, or stretched (default: crop)",
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


def _share(text: str) -> float:
    """An argparse type: a share between 0 and 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"must be a number between 0 and 1, not {text}")
    return value


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
