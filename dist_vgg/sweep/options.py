"""The command line of a sweep: its own options, then `--`, then those of train."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from dist_vgg.base.command_line import Parser
from dist_vgg.base.errors import UserError
from dist_vgg.runs.config import TrainConfig
from dist_vgg.runs.fields import describe_options

# Options that belong behind `--`; train's --seed is more often meant for --seeds.
TRAIN_OPTIONS = {"config", *(option.name for option in describe_options(TrainConfig))} - {"seed"}


def read_options(argv: Sequence[str], description: str) -> tuple[argparse.Namespace, list[str]]:
    """The sweep's own options, and the words for train; UserError where they make no sense."""
    cut = list(argv).index("--") if "--" in argv else len(argv)
    parser = _parser(description)
    _refuse_train_options(parser, argv[:cut])
    own = parser.parse_args(argv[:cut])
    _check(own)
    own.json = own.json or own.out / "sweep.json"
    return own, list(argv[cut + 1 :])


def _parser(description: str) -> Parser:
    parser = Parser(
        prog="python -m dist_vgg.sweep",
        hints=dict.fromkeys(("ranks", "np", "workers", "world-size"), "did you mean -n?"),
        usage="%(prog)s --out DIR [options] -- [options of dist_vgg.train]",
        description=description,
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder for all runs")
    add("-n", type=int, default=2, metavar="N", help="ranks of each run (default: 2)")
    add("--seeds", type=_seeds, default=[0], metavar="N,N", help="a run for each (default: 0)")
    add("--vary", action="append", default=[], metavar="NAME=X,Y", help="an option of train and "
        "its values; several --vary are combined, NAME/NAME=X/Y,X/Y go together")  # fmt: skip
    add("--prepare", metavar="OPTIONS", help="options of data_prep: each seed gets a data set, and "
        "so a subset, of its own")  # fmt: skip
    add("--held-out", type=int, default=0, metavar="N", help="also evaluate on N training images "
        "that --prepare leaves unused")  # fmt: skip
    add("--shifts", type=int, default=0, metavar="PIXELS", help="also evaluate over shifts")
    add("--json", type=Path, metavar="FILE", help="write the results (default: OUT/sweep.json)")
    add("--plot", type=Path, metavar="FILE.png", help="draw the loss (with matplotlib)")
    add("--mpirun", metavar="COMMAND", help="the command that starts ranks (default: mpirun)")
    return parser


def _refuse_train_options(parser: Parser, argv: Sequence[str]) -> None:
    """Raise UserError where the first unknown option is one of train."""
    _, unknown = parser.parse_known_args(argv)
    for word in unknown[:1]:
        if word.startswith("--") and word[2:].split("=")[0].replace("-", "_") in TRAIN_OPTIONS:
            raise UserError(
                f"{word} is an option of train: those go behind --, as in: --out sweep -- "
                f"--epochs 10; see {parser.prog} --help"
            )


def _check(own: argparse.Namespace) -> None:
    """Raise UserError for values out of range, and for --prepare with what the sweep decides."""
    if own.n < 1:
        raise UserError(f"-n {own.n}: it must be at least 1")
    if own.held_out < 0 or (own.held_out and own.prepare is None):
        raise UserError(f"--held-out {own.held_out}: a number of images, together with --prepare")
    try:
        words = shlex.split(own.prepare or "")
    except ValueError as error:
        raise UserError(f"--prepare {own.prepare}: {error}") from error
    given = {word.split("=")[0] for word in words}
    ours = {"--seed": "--seeds", "--out": "--out of the sweep"}
    ours |= {"--held-out": "--held-out of the sweep"} if own.held_out else {}
    for name in ours.keys() & given:
        raise UserError(f"leave out {name} in --prepare: that is what {ours[name]} is for")
    if own.held_out and "--limit" not in given:
        raise UserError(f"--held-out {own.held_out}: leave some images for it, with --limit N in "
                        "--prepare")  # fmt: skip


def _seeds(text: str) -> list[int]:
    try:
        return list(dict.fromkeys(map(int, text.split(","))))
    except ValueError:
        message = f"must be whole numbers with commas between, not {text}"
        raise argparse.ArgumentTypeError(message) from None
