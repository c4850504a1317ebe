"""Strong and weak scaling: the step at several numbers of ranks, against the fewest of them.

Strong scaling divides the same shards among more ranks, so it computes the same bits. The result
depends on shards and never on ranks, so weak scaling, which gives each rank the same work, takes
more shards with more ranks and trains on a larger batch. Measured and reported by the rules of
Hoefler and Belli, "Scientific benchmarking of parallel computing systems: twelve ways to tell the
masses when reporting performance results", SC'15, doi:10.1145/2807591.2807644.
"""

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_vgg.base.errors import UserError
from dist_vgg.base.progress import Progress
from dist_vgg.bench.comparison import in_turns
from dist_vgg.bench.hardware import cores
from dist_vgg.bench.options import add_number, add_numbers, add_training, training_settings
from dist_vgg.bench.processes import MeasurementFailed, worker_command
from dist_vgg.bench.random_trainer import random_trainer
from dist_vgg.bench.report import Report
from dist_vgg.bench.scaling_chart import ScalingChart
from dist_vgg.bench.scaling_series import Job, series
from dist_vgg.bench.scaling_table import report_text
from dist_vgg.mpi.collectives import allgather_text
from dist_vgg.mpi.mpirun import find_mpirun
from dist_vgg.recovery.hosts import Hosts
from dist_vgg.training.rank_times import COLUMNS

if TYPE_CHECKING:
    from mpi4py import MPI

FEWEST_SHARDS = 8  # by default
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # one for all containers of a machine


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    add_numbers(
        parser, "--ranks", None,
        "numbers of ranks; the lowest is the base (default: 1, 2, 4 and so on to the cores of this "
        "machine, or the slots of the hostfile)",
    )  # fmt: skip
    add_training(
        parser, 16, None,
        "shards of the strong scaling (default: 8, or the next multiple of the most ranks)",
    )  # fmt: skip
    add_number(
        parser, "--shards-a-rank", None,
        "shards of each rank in the weak scaling (default: as the strong scaling has at the most "
        "ranks)",
    )  # fmt: skip
    add_number(
        parser, "--repeat", 6,
        "rounds; in each, every job has its turn; an interval of 95%% takes 6",
    )  # fmt: skip
    add_number(parser, "--steps", 3, "steps to measure in each start, after one that warms up")
    parser.add_argument("--hostfile", metavar="FILE", help="mpirun's, for several machines")
    parser.add_argument(
        "--mpirun", metavar="COMMAND", help="the command that starts ranks (default: mpirun)"
    )


def run(options: argparse.Namespace) -> Report:
    """Measure all jobs in turns, and report both kinds of scaling."""
    hosts = Hosts(options.hostfile, 0)
    own = bool(hosts.names or options.mpirun)
    launcher = [*find_mpirun(options.mpirun), *hosts.options] if own else []
    settle(options, hosts)
    settings = training_settings(options, options.ranks)
    del settings["shards"]  # that of each job instead
    strong = [Job(ranks, options.shards) for ranks in options.ranks]
    weak = [Job(ranks, ranks * options.shards_a_rank) for ranks in options.ranks]
    commands = {
        job.name: worker_command(
            job.ranks, "scaling", launcher, shards=job.shards, steps=options.steps, **settings
        )
        for job in dict.fromkeys(strong + weak)  # one may be of both kinds
    }
    found = measure_all(commands, options.repeat)
    both = dict(strong=series(strong, found), weak=series(weak, found))
    entries = {kind: [point.as_dict() for point in points] for kind, points in both.items()}
    results = dict(kernels=settings["kernels"], **entries)
    return Report(report_text(both, options.steps), results, ScalingChart(both))


def settle(options: argparse.Namespace, hosts: Hosts) -> None:
    """Fill in the ranks and shards that the command line leaves open."""
    if not options.ranks:
        at_hand = ranks_at_hand(hosts)
        options.ranks = up_to(min(at_hand, options.shards or at_hand))
    options.ranks = sorted(options.ranks)
    if len(options.ranks) < 2:
        raise UserError("scaling compares numbers of ranks: name several, as in --ranks 1,2")
    most = options.ranks[-1]
    options.shards = options.shards or most * -(-FEWEST_SHARDS // most)
    options.shards_a_rank = options.shards_a_rank or max(1, options.shards // most)


def ranks_at_hand(hosts: Hosts) -> int:
    """The slots of all hosts, or the cores of this machine where no hosts are named."""
    if not hosts.names:
        return cores()
    if not all(hosts.slots):
        raise UserError(
            f"no number of ranks is given for {hosts.names[hosts.slots.index(0)]}: write it into "
            "the hostfile (host:4, or host slots=4), or say --ranks"
        )
    return sum(hosts.slots)


def up_to(most: int) -> list[int]:
    """1, 2, 4 and so on, and the most."""
    return sorted({1 << i for i in range(most.bit_length())} | {most})


def measure_all(
    commands: Mapping[str, Sequence[str]], rounds: int
) -> dict[str, list[dict[str, Any]]]:
    """What each job finds in each round.

    Raises MeasurementFailed as soon as two starts on the same shards end with other parameters.
    """
    progress = Progress(len(commands) * rounds)
    first: dict[int, tuple[str, str]] = {}

    def show(name: str, one: dict[str, Any]) -> None:
        progress.update(1, f"{name}: {np.median(one['seconds']):.3g} s a step")
        known = first.setdefault(one["shards"], (name, one["sha256"]))
        if one["sha256"] != known[1]:
            raise MeasurementFailed(
                f"{name} ended with parameters {one['sha256'][:16]}, and {known[0]} with "
                f"{known[1][:16]}: they don't compute the same; python -m dist_vgg.doctor says "
                "in what the hosts differ"
            )

    try:
        return in_turns(commands, rounds, show)
    finally:
        progress.close()


def measure(comm: "MPI.Intracomm", shards: int, steps: int, **options: Any) -> dict[str, Any]:
    """Take so many steps with the real trainer, between two that don't count.

    The `seconds` of a step are those of its slowest rank. What else it says of the step is the
    mean of the ranks.
    """
    trainer = random_trainer(comm, shards, options)
    seconds = []
    with np.errstate(all="ignore"):
        trainer.train_step(follows=True)
        for _ in range(steps):
            start = time.perf_counter()
            trainer.train_step(follows=True)
            seconds.append(time.perf_counter() - start)
        trainer.train_step()
    own = json.dumps([seconds, *place()])
    all_seconds, *places = zip(*map(json.loads, allgather_text(comm, own)), strict=True)
    slowest = np.max(all_seconds, axis=0)
    tables = [times.table.mean(axis=0) for times in trainer.times.window][-steps:]
    result = dict(
        seconds=slowest.tolist(),
        images=trainer.totals.images // trainer.step,
        shards=shards,
        **means(np.mean(tables, axis=0), float(slowest.mean())),
        machines=machines(*places),
        sha256=trainer.route.vectors.digest(),
        route=trainer.route.kind,
        parameters=trainer.net.parameter_count,
    )
    trainer.route.close()
    return result


def means(row: np.ndarray, seconds: float) -> dict[str, Any]:
    """The share of a step's seconds that each part takes, what hid, and the bytes that were sent.

    `row` has the columns of RankTimes.
    """
    spent = dict(zip(COLUMNS, row.tolist(), strict=True))
    columns = dict(computing="computing", waiting="waiting", exchange="exposed")
    shares = {part: spent[column] / seconds for part, column in columns.items()}
    shares["rest"] = 1 - sum(shares.values())
    return dict(shares=shares, hidden=spent["hidden"] / seconds, sent_bytes=spent["sent_bytes"])


def place() -> tuple[str, list[int]]:
    """The machine that this process is on, and the cores there that it may use."""
    name = BOOT_ID.read_text().strip() if BOOT_ID.exists() else os.uname().nodename
    if hasattr(os, "sched_getaffinity"):
        return name, sorted(os.sched_getaffinity(0))
    return name, list(range(cores()))


def machines(names: Sequence[str], allowed: Sequence[Sequence[int]]) -> list[dict[str, int]]:
    """The ranks on each machine, and the cores there that these may use between them."""
    of: dict[str, set[int]] = {}
    for name, some in zip(names, allowed, strict=True):
        of.setdefault(name, set()).update(some)
    return [dict(ranks=names.count(name), cores=len(some)) for name, some in of.items()]
