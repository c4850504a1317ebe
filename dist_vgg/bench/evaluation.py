"""Forward passes as evaluation makes them: images/s."""

import argparse
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_vgg.base.errors import UserError
from dist_vgg.bench.against import RUNTIMES, TORCH
from dist_vgg.bench.chart import Chart
from dist_vgg.bench.comparison import compare
from dist_vgg.bench.contenders import ours, runtime, torch_single
from dist_vgg.bench.flops import network_flops
from dist_vgg.bench.options import (
    add_comparison,
    add_network,
    add_number,
    add_numbers,
    network_settings,
)
from dist_vgg.bench.random_trainer import MEAN, STD, random_samples
from dist_vgg.bench.report import Report
from dist_vgg.data.samples import normalise
from dist_vgg.data.shards import hosted
from dist_vgg.mpi.collectives import barrier
from dist_vgg.network.vgg import initialise, vgg16
from dist_vgg.training.scoring import batch_size

if TYPE_CHECKING:
    from mpi4py import MPI


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    add_numbers(parser, "--ranks", [2], "ranks; several are compared")
    add_number(parser, "--images", 512, "images of all ranks together")
    add_network(parser)
    add_comparison(parser, [TORCH, *RUNTIMES])


def run(options: argparse.Namespace) -> Report:
    """Compare numbers of ranks with each other, PyTorch and the runtimes."""
    settings = network_settings(options)
    if options.images < max(options.ranks):
        raise UserError(f"--images {options.images} is fewer than --ranks {max(options.ranks)}")
    contenders = ours("evaluation", options.ranks, images=options.images, **settings)
    for name in options.against:
        contenders += torch_single(options, "infer") if name == TORCH else runtime(options, name)
    chart = Chart("Evaluation", "images/s")
    text, results = compare(contenders, options).report(chart)
    return Report(text, results, chart)


def measure(comm: "MPI.Intracomm", images: int, width: float, kernels: str) -> dict[str, Any]:
    """Make forward passes, each rank on its part of the images."""
    net = vgg16(width=width, dropout=0, kernels=kernels)
    params = np.empty(net.parameter_count, np.float32)
    initialise(net, params, seed=0)
    net.bind(params, params)
    pixels = random_samples(comm.rank, len(hosted(images, comm.size, comm.rank))).pixels
    size = batch_size(net)
    barrier(comm)
    first_step = time.time()
    net.forward(normalise(pixels[:size], MEAN, STD))
    barrier(comm)
    start = time.perf_counter()
    for first in range(0, len(pixels), size):
        net.forward(normalise(pixels[first : first + size], MEAN, STD))
    barrier(comm)
    elapsed = time.perf_counter() - start
    return dict(
        images_per_s=images / elapsed,
        first_step=first_step,
        parameters=net.parameter_count,
        flops=network_flops(net)[0],
    )
