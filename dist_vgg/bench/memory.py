"""Where the memory of a training run goes, by rank and by node."""

import argparse
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_vgg.base import machine
from dist_vgg.base.command_line import plural
from dist_vgg.base.errors import UserError
from dist_vgg.base.table import table
from dist_vgg.bench.chart import Chart
from dist_vgg.bench.options import add_number, add_training, training_settings
from dist_vgg.bench.processes import result_of, worker_command
from dist_vgg.bench.random_trainer import random_trainer, touch_gradients, touch_state
from dist_vgg.bench.readings import Readings
from dist_vgg.bench.report import Report
from dist_vgg.mpi.collectives import allreduce_sum, barrier
from dist_vgg.training.records import peak_memory

if TYPE_CHECKING:
    from mpi4py import MPI

MIB = 2**20


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    add_number(parser, "--ranks", 8, "ranks")
    add_training(parser, micro_batch=16)


def run(options: argparse.Namespace) -> Report:
    """Show how much memory each part of a training run adds."""
    settings = training_settings(options, [options.ranks])
    found = result_of("memory", worker_command(options.ranks, "memory", **settings))
    stages = found["stages"]
    chart = Chart(f"Memory of {plural(options.ranks, 'rank')}, route {found['route']}", "MiB")
    rows, before = [], dict(rank=0, all=0)
    for part, held in stages.items():
        more = {name: held[name] - before[name] for name in held}
        for name, words in (("rank", "largest rank"), ("all", "all ranks")):
            chart.add(part, words, Readings.of([more[name] / MIB]))
        rows.append([part, *(f"{more[name] / MIB:,.0f}" for name in ("rank", "all"))])
        before = held
    rows.append(["peak", *(f"{before[name] / MIB:,.0f}" for name in ("rank", "all"))])
    rows.append(["as train says", *(f"{value / MIB:,.0f}" for value in found["reported"])])
    lines = [
        table(["MiB", "largest rank", "all ranks"], rows),
        "",
        f"route {found['route']}; memory that ranks share counts once for all ranks, and for each",
        "rank that has touched it; train's own sum counts libraries for each rank",
        *(f"{name}: {value / MIB:,.0f} MiB" for name, value in found["alone"].items()),
    ]
    return Report("\n".join(lines), found, chart)


def measure(comm: "MPI.Intracomm", shards: int, **options: Any) -> dict[str, Any]:
    """Bytes held after each part of a training run has come to be.

    For each part: what the largest rank holds (`rank`), and what all ranks hold together (`all`),
    where pages that several share count once.
    """
    stages: dict[str, dict[str, int]] = {"interpreter and libraries": _held(comm)}
    trainer = random_trainer(comm, shards, options)
    stages["parameters and images"] = _held(comm)
    touch_gradients(trainer)
    stages["gradients"] = _held(comm)
    touch_state(trainer)
    stages["optimizer state"] = _held(comm)
    before = np.zeros(comm.size, np.int64)
    before[comm.rank] = _private()
    with np.errstate(all="ignore"):
        for _ in range(2):
            trainer.train_step()
    peak, shared = machine.memory()
    last = np.zeros((2, comm.size), np.int64)
    last[:, comm.rank] = peak, peak - shared - before[comm.rank]
    peaks, more = allreduce_sum(comm, last)
    stages["a step, at its peak"] = dict(
        rank=int(peaks.max()), all=stages["optimizer state"]["all"] + int(more.sum())
    )
    parameters, states = trainer.net.parameter_count, len(trainer.route.state)
    result = dict(
        stages=stages,
        route=trainer.route.kind,
        reported=[round(gib * 2**30) for gib in peak_memory(comm, trainer.route)],
        alone={
            "one copy of the parameters": 4 * parameters,
            "optimizer state of all ranks": 4 * parameters * states,
        },
    )
    trainer.route.close()
    return result


def _held(comm: "MPI.Intracomm") -> dict[str, int]:
    """Bytes that the largest rank holds now, and all ranks, each page of memory once."""
    barrier(comm)
    held = np.zeros((2, comm.size), np.int64)
    held[:, comm.rank] = _proc("status", "VmRSS"), _proc("smaps_rollup", "Pss")
    ranks, parts = allreduce_sum(comm, held)
    barrier(comm)  # a rank that went on would change what others share with it
    return dict(rank=int(ranks.max()), all=int(parts.sum()))


def _private() -> int:
    """Bytes that this process holds now and shares with nobody."""
    return _proc("status", "VmRSS") - _proc("status", "RssShmem")


def _proc(file: str, field: str) -> int:
    """A number of bytes that Linux knows of this process."""
    try:
        with open(f"/proc/self/{file}") as lines:  # noqa: PTH123
            return next(int(s.split()[1]) << 10 for s in lines if s.startswith(f"{field}:"))
    except (OSError, StopIteration) as error:
        raise UserError(
            f"memory by part is read from Linux's /proc/self/{file}: {error}"
        ) from error
