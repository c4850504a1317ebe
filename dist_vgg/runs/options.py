"""The command line of training, made from the fields of `TrainConfig`."""

import argparse
from collections.abc import Sequence
from typing import Any

from dist_vgg.base.command_line import Parser
from dist_vgg.runs.config import RUN, TrainConfig
from dist_vgg.runs.fields import Option, describe_options
from dist_vgg.runs.hints import HINTS
from dist_vgg.runs.recipes import recipes


def train_parser() -> Parser:
    """The command line of `python -m dist_vgg.train`."""
    parser = Parser(
        prog="python -m dist_vgg.train",
        hints=HINTS,
        description="Train VGG16, or another network of its family, on the shards of a data "
        "folder, on any number of MPI ranks.",
        epilog="The trained weights are the same bits at any number of ranks.",
        argument_default=argparse.SUPPRESS,  # for those that TrainConfig does not have
    )
    groups = add_options(parser, [option.name for option in describe_options(TrainConfig)])
    groups[RUN].add_argument(
        "--config",
        metavar="FILE.toml",
        help="take options from a TOML file, by their names, or from a recipe that comes with "
        f"dist_vgg ({', '.join(recipes())}); options given here win",
    )
    groups[RUN].add_argument(
        "--resume",
        nargs="?",
        const="yes",
        choices=("yes", "if-any"),
        help="continue from the newest whole state of --out (or of the newest run); "
        "if-any: start a new run where there is none",
    )
    debug = parser.add_argument_group("debugging, in one process without mpirun")
    debug.add_argument(
        "--debug",
        action="store_true",
        help="host all shards; check gradients and every array, and show each layer",
    )
    debug.add_argument(
        "--pdb", action="store_true", help="with --debug: start the debugger where it fails"
    )
    return parser


def add_options(parser: Parser, names: Sequence[str]) -> dict[str, Any]:
    """Add options of `TrainConfig` to a command line; returns their argument groups, by title.

    Parsing yields only the options that the user has given.
    """
    groups: dict[str, Any] = {}
    for option in describe_options(TrainConfig):
        if option.name not in names:
            continue
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        # 0 == False, hence the types.
        hidden = option.default == "" or option.value_type is bool
        groups[option.group].add_argument(
            option.flag,
            help=option.help + ("" if hidden else f" (default: {option.default})"),
            default=argparse.SUPPRESS,
            **_kind(option),
        )
    return groups


def _kind(option: Option) -> dict[str, Any]:
    """How argparse is to read an option's value."""
    if option.value_type is bool:
        return {"action": argparse.BooleanOptionalAction}
    if option.choices:
        return {"choices": option.choices}
    return {"type": option.value_type, "metavar": option.placeholder}
