"""The options of dist_vgg.doctor."""

import argparse
from pathlib import Path

from dist_vgg.base.command_line import Parser
from dist_vgg.runs.config import TrainConfig


def own_parser() -> Parser:
    """The command line."""
    parser = Parser(
        prog="python -m dist_vgg.doctor",
        description="Check the machines that are to train: what is wrong, and what mends it.",
        epilog="Exit status: 2 where something would fail, 0 with warnings.",
    )
    add = parser.add_argument
    add("-n", type=int, metavar="N", help="start N ranks under mpirun")
    add("--hostfile", metavar="FILE", help="mpirun's: start ranks on these hosts")
    add("--mpirun", metavar="COMMAND", help="the command that starts ranks (default: mpirun)")
    add("--data", metavar="DIR", help="also look at the shards there")
    add("--out", metavar="DIR", help="also look at this folder, in which a run is to write")
    add("--micro-batch", type=_positive, default=TrainConfig.micro_batch, metavar="N",
        help="of the step to expect (default: %(default)s)")  # fmt: skip
    add("--width", type=_width, default=TrainConfig.width, metavar="X",
        help="likewise, of the network (default: %(default)g)")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="write all that was found there")
    return parser


def _positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError
    return int(text)


def _width(text: str) -> float:
    value = float(text)
    if not 0 < value <= 4:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 4")
    return value
