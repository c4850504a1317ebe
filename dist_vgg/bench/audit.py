"""The cost of a step's audit, and of keeping the step in memory."""

import argparse
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_vgg.base.command_line import plural
from dist_vgg.base.table import table
from dist_vgg.bench.chart import Chart
from dist_vgg.bench.options import add_number, add_training, training_settings
from dist_vgg.bench.processes import result_of, worker_command
from dist_vgg.bench.random_trainer import random_trainer, skip_computation, step_seconds
from dist_vgg.bench.readings import Readings
from dist_vgg.bench.report import Report
from dist_vgg.mpi.collectives import bcast_text

if TYPE_CHECKING:
    from mpi4py import MPI

NAMES = dict(both="audited and kept", neither="neither")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    add_number(parser, "--ranks", 8, "ranks")
    add_number(parser, "--repeat", 20, "readings of each, in turns")
    add_training(parser, micro_batch=16)


def run(options: argparse.Namespace) -> Report:
    """Compare steps that are audited and kept in memory with steps that are not."""
    settings = training_settings(options, [options.ranks])
    found = result_of(
        "audit", worker_command(options.ranks, "audit", repeat=options.repeat, **settings)
    )
    step = Readings.of(1e3 * value for value in found["step"])
    times = {key: Readings.of(1e3 * turn[key] for turn in found["seconds"]) for key in NAMES}
    more = Readings.of(1e3 * (turn["both"] - turn["neither"]) for turn in found["seconds"])
    share = more.median / step.median
    chart = Chart(f"A step without its computation, {plural(options.ranks, 'rank')}", "ms")
    for key, name in NAMES.items():
        chart.add("exchange and update", name, times[key])
    rows = [
        ["a whole step", str(step), ""],
        *([f"exchange and update alone, {NAMES[key]}", str(times[key]), ""] for key in NAMES),
        ["the difference, turn by turn", str(more), f"{share:.1%} of a step"],
    ]
    kept = "" if found["kept"] else "; not kept: shared memory is too small"
    lines = [table(["", "ms", ""], rows), "", f"route {found['route']}{kept}"]
    return Report("\n".join(lines), {**found, "ms": times, "more": more, "share": share}, chart)


def measure(comm: "MPI.Intracomm", shards: int, repeat: int, **options: Any) -> dict[str, Any]:
    """Seconds of two whole audited steps, and of steps of either kind that compute nothing.

    The two kinds take turns. Before that, a whole step of each leaves factors for it to multiply,
    and one without computation warms each up.
    """
    name = f"bench-{bcast_text(comm, uuid.uuid4().hex[:16])}"
    trainers = dict(
        both=random_trainer(comm, shards, options, f"{name}-0"),
        neither=random_trainer(comm, shards, {**options, "audit": False}),
    )
    try:
        with np.errstate(all="ignore"):
            step_seconds(trainers["neither"])
            steps = [step_seconds(trainers["both"]) for _ in range(3)][1:]  # the first warms up
            for trainer in trainers.values():
                skip_computation(trainer)
                step_seconds(trainer)
            seconds = [
                {key: step_seconds(trainer) for key, trainer in trainers.items()}
                for _ in range(repeat)
            ]
    finally:
        for trainer in trainers.values():
            trainer.route.close()
    kept = not trainers["both"].route.no_standby
    return dict(step=steps, seconds=seconds, kept=kept, route=trainers["both"].route.kind)
