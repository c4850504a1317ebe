"""Whole training steps: images/s, and where their time goes."""

import argparse
import json
import math
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_vgg.base.table import table
from dist_vgg.bench.against import TORCH, fast_bfloat16
from dist_vgg.bench.chart import Chart
from dist_vgg.bench.comparison import Comparison, compare
from dist_vgg.bench.contenders import OURS, ours, torch_bfloat16, torch_ddp, torch_single
from dist_vgg.bench.flops import network_flops
from dist_vgg.bench.options import add_comparison, add_numbers, add_training, training_settings
from dist_vgg.bench.random_trainer import random_trainer
from dist_vgg.bench.readings import Readings
from dist_vgg.bench.report import Report
from dist_vgg.mpi.collectives import allgather_text, allreduce_sum, barrier
from dist_vgg.training.records import peak_memory

if TYPE_CHECKING:
    from mpi4py import MPI


NO_BFLOAT16 = "left out: this processor has neither AMX nor AVX-512's bfloat16 (so PyTorch)"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    add_numbers(parser, "--ranks", [2], "ranks; several are compared")
    add_training(parser, micro_batch=32)
    add_comparison(parser, [TORCH])
    add_numbers(parser, "--ddp-batch", [16, 32, 128], "images of each rank of torch's DDP")


def run(options: argparse.Namespace) -> Report:
    """Compare numbers of ranks with each other and with PyTorch."""
    settings = training_settings(options, options.ranks)
    contenders = ours("step", options.ranks, seconds=options.seconds, **settings)
    if options.against:
        optimizer = ("--optimizer", options.optimizer)
        contenders += torch_single(options, "train", *optimizer)
        contenders += torch_ddp(options, *optimizer)
        if instructions := fast_bfloat16(options):
            contenders += torch_bfloat16(options, *optimizer)
    comparison = compare(contenders, options)
    chart = Chart("Training", "images/s")
    text, results = comparison.report(chart)
    if options.against:
        results["bfloat16"] = instructions
        text += f"\ntorch bfloat16: {f'by {instructions}' if instructions else NO_BFLOAT16}"
    text += "\n\n" + _shares(comparison, results)
    return Report(text, results, chart)


def _shares(comparison: Comparison, results: dict[str, Any]) -> str:
    """The share of the step that each part takes, the mean of the ranks."""
    contenders = [c for c in comparison.contenders if c.family == OURS]
    columns = []
    for contender in contenders:
        runs = [result["shares"] for result in comparison.found[contender.name]]
        shares = {part: Readings.of(run[part] for run in runs).median for part in runs[0]}
        both = Readings.of(run.get("exchange", 0) + run.get("update", 0) for run in runs)
        shares["exchange and update"] = both.median
        results["contenders"][contender.name]["shares"] = shares
        columns.append(shares)
    rows = [[part, *(f"{shares[part]:.1%}" for shares in columns)] for part in columns[0]]
    return table(["share of the step", *(c.label for c in contenders)], rows)


def measure(comm: "MPI.Intracomm", shards: int, seconds: float, **options: Any) -> dict[str, Any]:
    """Take steps with the real trainer: at least two, and for about so many seconds."""
    trainer = random_trainer(comm, shards, options)
    parts: Counter[str] = Counter()
    with np.errstate(all="ignore"):
        barrier(comm)
        first_step, start = time.time(), time.perf_counter()
        trainer.train_step()
        steps = _of_rank_0(comm, max(2, math.ceil(seconds / (time.perf_counter() - start))))
        images = trainer.totals.images
        barrier(comm)
        start = time.perf_counter()
        for number in range(1, steps + 1):
            parts.update(trainer.train_step(follows=number < steps)["seconds"])
        barrier(comm)
        elapsed = time.perf_counter() - start
    of_all_ranks: Counter[str] = Counter()
    for text in allgather_text(comm, json.dumps(parts)):
        of_all_ranks.update(json.loads(text))
    result = dict(
        images_per_s=(trainer.totals.images - images) / elapsed,
        steps=steps,
        shares={name: spent / comm.size / elapsed for name, spent in of_all_ranks.items()},
        memory=peak_memory(comm, trainer.route),
        first_step=first_step,
        route=trainer.route.kind,
        parameters=trainer.net.parameter_count,
        flops=sum(network_flops(trainer.net)),
    )
    trainer.route.close()
    return result


def _of_rank_0(comm: "MPI.Intracomm", count: int) -> int:
    """Rank 0's number, on every rank."""
    return int(allreduce_sum(comm, np.array([0 if comm.rank else count]))[0])
