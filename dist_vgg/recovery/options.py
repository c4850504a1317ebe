"""The options of dist_vgg.elastic, and those of dist_vgg.train that it must know."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from dist_vgg.base.command_line import INFORMS, Parser
from dist_vgg.base.errors import UserError
from dist_vgg.runs.config import TrainConfig
from dist_vgg.runs.recipes import read_toml

GAVE_UP = 75  # exit status


def split_options(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """elastic's own options, which come before `--`, and train's, which come after it."""
    cut = argv.index("--") if "--" in argv else len(argv)
    if cut == len(argv) and not INFORMS & set(argv):
        raise UserError(
            "put train's options after --, as in: -n 8 -- --data data; "
            "see python -m dist_vgg.elastic --help"
        )
    return read_own_options(argv[:cut]), list(argv[cut + 1 :])


def read_own_options(argv: Sequence[str]) -> argparse.Namespace:
    """The options before `--`, checked."""
    parser = Parser(
        prog="python -m dist_vgg.elastic",
        hints=dict.fromkeys(("ranks", "np", "workers", "world-size"), "did you mean -n?"),
        usage="%(prog)s -n N [options] -- [options of dist_vgg.train]",
        description="Train under mpirun; after a loss, start again on the ranks that remain.",
        epilog=f"Exit status: train's own, or {GAVE_UP} when no restarts are left.",
    )
    add = parser.add_argument
    add("-n", type=int, required=True, metavar="N", help="ranks to start with")
    add("--min-ranks", type=int, default=1, metavar="N", help="never start fewer (default: 1)")
    add("--max-restarts", type=int, default=10, metavar="N", help="then give up (default: 10)")
    add("--replace", action="store_true", help="start all N ranks again after a loss")
    add("--hostfile", metavar="FILE", help="mpirun's, for several machines")
    add("--mpirun", metavar="COMMAND", help="the command that starts ranks (default: mpirun)")
    own = parser.parse_args(argv)
    own.argv = list(argv)
    if own.min_ranks < 1 or own.max_restarts < 0:
        raise UserError("--min-ranks must be at least 1, and --max-restarts at least 0")
    if own.n < own.min_ranks:
        raise UserError(f"-n {own.n} is less than --min-ranks {own.min_ranks}")
    return own


def read_train_options(options: Sequence[str]) -> argparse.Namespace:
    """Those of train's options that the supervisor must know, and the run's folder."""
    parser = Parser(prog="python -m dist_vgg.train", add_help=False)
    parser.add_argument("--out")
    parser.add_argument("--config")
    parser.add_argument("--stall-timeout", type=float)
    parser.add_argument("--resume", nargs="?", const="newest")
    parser.add_argument("--debug", "--pdb", action="store_true")
    known, _ = parser.parse_known_args(options)
    if INFORMS & set(options):
        raise UserError("for train's own options see python -m dist_vgg.train --help")
    if known.debug:
        raise UserError(
            "--debug and --pdb need a single process; start python -m dist_vgg.train --debug"
        )
    stored = read_toml(known.config) if known.config else {}
    if known.stall_timeout is None:
        known.stall_timeout = stored.get("stall_timeout", TrainConfig().stall_timeout)
    folder = known.out or stored.get("out")
    if known.resume and not folder:
        raise UserError("name the run to resume with --out")
    known.folder = Path(folder) if folder else None
    return known
