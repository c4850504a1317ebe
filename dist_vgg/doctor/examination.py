"""The examination: what all ranks find, gathered, and judged."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dist_vgg.base import machine
from dist_vgg.doctor import (
    clocks,
    cores,
    exchange,
    files,
    launch,
    memory,
    network,
    program,
    speed,
    step,
)  # fmt: skip
from dist_vgg.doctor.findings import FAULT, Facts, Finding, World, by_host, unlike
from dist_vgg.kernels import sets
from dist_vgg.mpi.collectives import allgather_text
from dist_vgg.network.sequential import Sequential
from dist_vgg.network.vgg import vgg
from dist_vgg.recovery.watchdog import Beat
from dist_vgg.runs.config import TrainConfig
from dist_vgg.training.update import make_optimizer

if TYPE_CHECKING:
    from mpi4py import MPI

SHARDS = 8  # where there is no data, or none that all ranks can read


def examine(comm: "MPI.Intracomm", options: argparse.Namespace, beat: Beat) -> World:
    """The facts of all ranks, on every rank; collective. `beat` hears of each part.

    Ranks of different versions of this program find no more than that they are, since they would
    not wait for each other in the same places.
    """
    from mpi4py import MPI

    machine.settle(TrainConfig.blas_threads)  # as train does, before anything is measured
    host = MPI.Get_processor_name()
    hosts = allgather_text(comm, host)
    beat("looking at the program", 0)
    found: dict[str, Any] = dict(
        rank=comm.rank, host=host, launch=launch.facts(comm), program=program.facts(comm),
        cores=cores.facts(comm), network=network.facts(comm, hosts),
    )  # fmt: skip
    world = _gather(comm, found)
    if unlike(world, "program", "versions", "the version of dist_vgg"):
        return world
    beat("looking at the data", 0)
    if options.data:
        found["data"] = files.data_facts(Path(options.data), comm.rank, comm.size)
    world = _gather(comm, found)
    shards = max(_shards(world), comm.size)
    unfit = any(finding.level == FAULT for finding in program.judge(world))
    net = vgg(width=options.width, kernels="numpy" if unfit else sets.AUTO)
    vectors = 1 + len(make_optimizer(TrainConfig()).state_names)
    beat("looking at the memory", 0)
    found["memory"] = memory.facts(comm, net, shards, vectors, options.micro_batch)
    if options.out:
        beat("looking at the run's folder", 0)
        size = 4 * net.parameter_count * vectors
        found["out"] = files.out_facts(comm, Path(options.out), size)
    found["clocks"] = clocks.facts(comm)
    beat("measuring the exchange", 0)
    refused = any(rank["memory"]["error"] for rank in _gather(comm, found))
    kind = "flat" if refused else found["memory"]["kind"]  # it needs no shared memory
    found["exchange"] = exchange.facts(comm, kind, shards)
    beat("measuring products", 0)
    here = [rank["rank"] for rank in world if rank["host"] == host]
    turns = max(map(len, by_host(world).values()))
    found["speed"] = speed.facts(comm, here.index(comm.rank), turns)
    world = _gather(comm, found)
    beat("measuring steps", 0)
    found["step"] = _step(comm, options, world, shards, net)
    return _gather(comm, found)


def _gather(comm: "MPI.Intracomm", found: Facts) -> World:
    """The facts of every rank, as they are after a way through JSON."""
    return [json.loads(text) for text in allgather_text(comm, json.dumps(found))]


def _shards(world: World) -> int:
    """The number of shards of the data that all ranks can read, else as many as MNIST has."""
    counts = {rank.get("data", {}).get("shards", 0) for rank in world}
    return int(counts.pop() or SHARDS) if len(counts) == 1 else SHARDS


def _step(
    comm: "MPI.Intracomm", options: argparse.Namespace, world: World, shards: int, net: Sequential
) -> dict[str, Any]:
    """The seconds of a step; why there are none where it could not be made."""
    short = memory.too_little(world)
    if short:
        return dict(error=f"{short} may have too little memory")
    faults = [*program.judge(world), *exchange.judge(world)]
    if any(finding.level == FAULT for finding in faults):
        return dict(error="mend the faults first")
    asked = dict(width=options.width, micro_batch=options.micro_batch, progress="none")
    whole = exchange.seconds_of(world, 4 * net.parameter_count)
    return step.facts(comm, net, shards, world[0]["memory"]["kind"], asked, whole)


JUDGES = {
    "launch": launch.judge,
    "program": program.judge,
    "cores": cores.judge,
    "memory": memory.judge,
    "network": network.judge,
    "data": files.judge_data,
    "out": files.judge_out,
    "clocks": clocks.judge,
    "exchange": exchange.judge,
    "speed": speed.judge,
    "step": step.judge,
}


def judge(world: World) -> list[Finding]:
    """All findings about what was looked at, in the order in which a reader should see them."""
    judges = [judge_one for name, judge_one in JUDGES.items() if name in world[0]]
    return [finding for judge_one in judges for finding in judge_one(world)]
