"""What a trainer is made of: the same program, data and options on all ranks, and an exchange."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dist_vgg.base import machine
from dist_vgg.data.batches import Batches
from dist_vgg.data.shards import Samples, SetInfo
from dist_vgg.mpi.collectives import allreduce_sum, require_same
from dist_vgg.mpi.command import program_facts
from dist_vgg.runs.config import TrainConfig, flag
from dist_vgg.state.checksums import GRADIENT, PARAMETERS, Audit, Cells
from dist_vgg.training import optim

if TYPE_CHECKING:
    from mpi4py import MPI

    from dist_vgg.exchange.route import Route

# Makes an exchange: communicator, numbers in the flat vector, the shards that each rank hosts, and
# the names of the optimizer's vectors.
MakeExchange = Callable[["MPI.Intracomm", int, Sequence[Sequence[int]], Sequence[str]], "Route"]


def require_same_training(comm: "MPI.Intracomm", config: TrainConfig, info: SetInfo) -> None:
    """Raise UserError on every rank where ranks would train on other data or in another way."""
    require_same(comm, program_facts(), "install the same version on every host")
    require_same(comm, info.facts(), "give every host the same shards")
    options = {flag(name): value for name, value in config.result_options().items()}
    require_same(comm, options, "start all ranks with the same options")
    require_same(comm, machine.facts(), machine.MEND)


def shard_sizes(comm: "MPI.Intracomm", info: SetInfo, local: Mapping[int, Samples]) -> np.ndarray:
    """The number of samples of every shard, (shards,) int64, from those that each rank hosts."""
    sizes = np.zeros(info.shards, np.int64)
    for shard, samples in local.items():
        sizes[shard] = len(samples)
    return allreduce_sum(comm, sizes)


def where_is(comm: "MPI.Intracomm") -> str:
    """This rank and its host, for a message."""
    from mpi4py import MPI

    return f"rank {comm.rank} on {MPI.Get_processor_name()}"


def audited_route(config: TrainConfig, layers: Iterable[int], standby: str = "") -> MakeExchange:
    """Make the route that the options ask for, audited unless they say otherwise.

    `layers` says where each layer begins in the flat vector. With the name of a `standby` the
    replica is kept in memory that outlives the processes, where there is room for it.
    """

    def make(
        comm: "MPI.Intracomm",
        count: int,
        shards_of_rank: Sequence[Sequence[int]],
        state_names: Sequence[str],
    ) -> "Route":
        # It needs MPI, which importing this package does not start.
        from dist_vgg.exchange.route import Partition, Route, choose, why_no_standby

        names = (PARAMETERS, *state_names)
        kind = choose(comm, config.route, count, shards_of_rank, len(names))
        missing = standby and why_no_standby(comm, kind, count, shards_of_rank, len(names))
        partition = Partition(count, comm.size)
        cells = Cells(count, partition.grain, layers)
        name = "" if missing else standby
        route = Route(comm, kind, count, shards_of_rank, state_names, name, len(cells))
        route.no_standby = missing or route.no_standby
        if config.audit:
            tables, bucket = route.replica.tables, partition.buckets[0][1]
            route.audit = Audit(cells, (*names, GRADIENT), tables, where_is(comm), bucket)
        return route

    return make


def learning_rate(config: TrainConfig, batches: Batches) -> tuple[float, optim.Schedule]:
    """The rate after warm-up, scaled to the global batch, and the rate of each step."""
    rate = optim.scaled_lr(config.base_lr, batches.global_size(0), config.lr_batch)
    warmup = config.warmup
    if config.warmup_epochs:
        warmup = max(1, round(config.warmup_epochs * batches.steps_per_epoch))
    steps = config.epochs * batches.steps_per_epoch
    return rate, optim.schedule(config.schedule, rate, steps, warmup)
