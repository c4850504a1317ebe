"""Options that several benchmarks have in common."""

import argparse
import math
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from dist_vgg.base.errors import UserError
from dist_vgg.bench.against import OTHERS
from dist_vgg.kernels.sets import BFLOAT16, CHOICES, FLOAT32, HELP, load, set_of
from dist_vgg.runs.config import CONVOLUTIONS, NETWORKS, RATES, TrainConfig
from dist_vgg.runs.fields import LARGEST

LARGEST_SIDE = 1 << 15  # of matrices to multiply: three of them take 12 GiB


def add_network(parser: argparse.ArgumentParser, *more: str, help: str = HELP) -> None:
    """Add what decides the network; `more` are choices of --kernels before its usual ones."""
    parser.add_argument(
        "--width", type=float, default=1.0, metavar="X", help="factor on hidden widths (default: 1)"
    )
    add_choice(parser, "--kernels", (*more, *CHOICES), help)
    add_choice(parser, "--conv", CONVOLUTIONS, "reference: an older way to say --kernels reference")
    add_choice(parser, "--precision", (FLOAT32, BFLOAT16), "of what is multiplied")


def add_training(
    parser: argparse.ArgumentParser,
    micro_batch: int,
    shards: int | None = 8,
    hosted: str = "shards, however many ranks host them",
) -> None:
    """Add what decides a training step; `hosted` says what the number of shards is."""
    add_number(parser, "--shards", shards, hosted)
    add_number(parser, "--micro-batch", micro_batch, "images of each shard in a step")
    add_choice(parser, "--optimizer", tuple(RATES), "the optimizer")
    add_choice(parser, "--route", ("auto", "flat", "node"), "how gradients travel")
    add_choice(parser, "--network", sorted(NETWORKS, key=TrainConfig.network.__ne__), "the network")
    add_network(parser)


def add_comparison(parser: argparse.ArgumentParser, others: Sequence[str]) -> None:
    """Add how contenders are compared, and with which of so many others."""
    add_rounds(parser, "contender")
    add_products(parser)
    titles = ", ".join(OTHERS[name].title for name in others)
    parser.add_argument(
        "--against", type=partial(_names, known=others), default=[],
        metavar="NAME,NAME" if len(others) > 1 else "NAME",
        help=f"compare with {titles} on all cores: {','.join(others)}",
    )  # fmt: skip
    parser.add_argument(
        "--torch-python", default=sys.executable, metavar="PATH",
        help="the Python that has what --against names (default: this one)",
    )  # fmt: skip
    add_numbers(
        parser, "--torch-batch", [16, 32, 64, 128], "images at a time of the others, in one process"
    )


def add_rounds(parser: argparse.ArgumentParser, measured: str) -> None:
    """Add how often and how long each of what takes turns is measured."""
    add_number(parser, "--repeat", 5, f"rounds; in each, every {measured} has its turn")
    parser.add_argument(
        "--seconds", type=_seconds, default=2.0, metavar="X", help="to measure each (default: 2)"
    )


def add_products(parser: argparse.ArgumentParser) -> None:
    """Add what the peak rate is measured with."""
    help = "sides of the square matrices whose product's best rate is the peak"
    add_numbers(parser, "--products", [2048, 4096], help, high=LARGEST_SIDE)


def add_choice(
    parser: argparse.ArgumentParser, flag: str, choices: Sequence[str], help: str
) -> None:
    """Add an option whose first choice is the default."""
    default = choices[0]
    parser.add_argument(flag, choices=choices, default=default, help=f"{help} (default: {default})")


def add_number(parser: argparse.ArgumentParser, flag: str, default: int | None, help: str) -> None:
    """Add an option that takes a whole number above 0; without a default, `help` names it."""
    help = help if default is None else f"{help} (default: {default})"
    parser.add_argument(flag, type=_count, default=default, metavar="N", help=help)


def add_numbers(
    parser: argparse.ArgumentParser,
    flag: str,
    default: list[int] | None,
    help: str,
    high: int = LARGEST,
) -> None:
    """Add an option of whole numbers from 1 to `high`; without a default, `help` names it."""
    help = help if default is None else f"{help} (default: {','.join(map(str, default))})"
    counts = partial(_counts, high=high)
    parser.add_argument(flag, type=counts, default=default, metavar="N,N", help=help)


def network_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The network that the options ask for; raises UserError where training would refuse it.

    `kernels` is the name of the set that computes it in the precision asked for.
    """
    settings = _checked(options, "width")
    return dict(width=settings["width"], kernels=set_of(settings["kernels"], options.precision))


def training_settings(options: argparse.Namespace, ranks: Iterable[int]) -> dict[str, Any]:
    """The training that the options ask for; raises UserError where so many ranks can't do it."""
    settings = _checked(options, "micro_batch", "optimizer", "route", "network", "width")
    for count in ranks:
        if count > options.shards:
            raise UserError(f"--ranks {count} is more than --shards {options.shards}")
    return dict(shards=options.shards, **settings)


def _checked(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Options that training has as well, within training's bounds, and the kernels they choose."""
    settings = {name: getattr(options, name) for name in (*names, "precision")}
    config = TrainConfig(**settings, kernels=options.kernels, conv=options.conv).settled()
    load(config.kernel_set)  # refuses what is not installed, before a worker would
    return {**settings, "kernels": config.kernels}


def _count(text: str, high: int = LARGEST) -> int:
    """A whole number above 0, which may be written as 1e6."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (1 <= value <= high and value.is_integer()):
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 1 to {high}")
    return int(value)


def _counts(text: str, high: int) -> list[int]:
    """Whole numbers above 0 with commas between them, each once."""
    return list(dict.fromkeys(_count(part, high) for part in text.split(",")))


def _names(text: str, known: Sequence[str]) -> list[str]:
    """Names with commas between them, each known and once."""
    names = list(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r} is not one of: {', '.join(known)}")
    return names


def _seconds(text: str) -> float:
    """A time from a millisecond to a day."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 1e-3 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds from 0.001 to 86400")
    return value
