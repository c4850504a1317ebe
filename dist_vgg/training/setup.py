"""What a trainer is made of: the same program, data and options on all ranks, and an exchange."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_vgg.base import machine
from dist_vgg.data.batches import Batches
from dist_vgg.data.samples import Samples
from dist_vgg.data.set_info import SetInfo
from dist_vgg.data.shards import hosted
from dist_vgg.kernels.arithmetic import NUMPY, Arithmetic
from dist_vgg.kernels.protocol import Kernels
from dist_vgg.kernels.sets import load, on_every_processor
from dist_vgg.mpi.collectives import (
    allgather_hosts,
    allreduce_sum,
    collective_errors,
    require_same,
)
from dist_vgg.mpi.command import program_facts
from dist_vgg.network.sequential import Sequential
from dist_vgg.runs.config import TrainConfig
from dist_vgg.runs.fields import flag
from dist_vgg.state.checksums import Cells
from dist_vgg.training.schedules import Schedule, scaled_lr, schedule

if TYPE_CHECKING:
    from mpi4py import MPI

    from dist_vgg.exchange.factors import Products
    from dist_vgg.exchange.protocol import Exchange, MakeExchange


def network_of(config: TrainConfig, info: SetInfo) -> dict[str, Any]:
    """The arguments of `vgg` that a network's shape depends on, as files of it have them."""
    shape = {name: getattr(info, name) for name in ("size", "channels", "classes")}
    return dict(name=config.network, **shape, width=config.width)


def settle_kernels(comm: "MPI.Intracomm", config: TrainConfig) -> tuple[TrainConfig, Kernels]:
    """The options with the kernels that they mean here, and these; UserError on every rank."""
    with collective_errors(comm):
        config = config.settled()
        return config, load(config.kernel_set)


def require_same_training(
    comm: "MPI.Intracomm", config: TrainConfig, info: SetInfo, kernels: Kernels
) -> None:
    """Raise UserError on every rank where ranks would train on other data or in another way."""
    require_same(comm, program_facts(), "install the same version on every host")
    require_same(comm, info.facts(), "give every host the same shards")
    options = {flag(name): value for name, value in config.result_options().items()}
    require_same_kernels(comm, kernels)  # before the options: "auto" may have chosen them
    require_same(comm, options, "start all ranks with the same options")


def require_same_kernels(comm: "MPI.Intracomm", kernels: Kernels) -> None:
    """Raise UserError on every rank where ranks would compute other bits from the same numbers."""
    facts = {"the kernels": f"{kernels.NAME} {kernels.VERSION}"}
    require_same(comm, facts, "install the same on every host, or choose with --kernels numpy")
    require_same(comm, {} if on_every_processor(kernels) else machine.facts(), machine.MEND)


def reads_on_demand(
    comm: "MPI.Intracomm", info: SetInfo, splits: Sequence[str], memory: float = 0
) -> bool:
    """Whether the images of this host's ranks are too many to be kept in memory; collective.

    `memory` is how many GiB of the host's memory they may take; 0 stands for half of it.
    """
    hosts = allgather_hosts(comm)
    here = [rank for rank, host in enumerate(hosts) if host == hosts[comm.rank]]
    shards = sum(len(hosted(info.shards, comm.size, rank)) for rank in here)
    largest = sum(-(-info.count(split) // info.shards) for split in splits)
    need = shards * largest * info.size**2 * info.channels
    return need > (memory * 2**30 if memory else machine.physical_memory() / 2)


def shard_sizes(comm: "MPI.Intracomm", info: SetInfo, local: Mapping[int, Samples]) -> np.ndarray:
    """The number of samples of every shard, (shards,) int64, from those that each rank hosts."""
    sizes = np.zeros(info.shards, np.int64)
    for shard, samples in local.items():
        sizes[shard] = len(samples)
    return allreduce_sum(comm, sizes)


def make_exchange(
    comm: "MPI.Intracomm",
    config: TrainConfig,
    net: Sequential,
    shards: int,
    state_names: Sequence[str],
    standby: str,
    make: "MakeExchange | None",
) -> "Exchange":
    """This rank's end of the exchange: the route of --route, audited unless the options say no.

    `state_names` are the optimizer's vectors. With the name of a `standby`, shared memory keeps
    the replica beyond the life of the processes, where there is room for it. `make` makes
    another exchange than the route.
    """
    # These need MPI, which importing this package does not start.
    from dist_vgg.exchange.partition import Partition
    from dist_vgg.exchange.placement import choose, why_no_standby
    from dist_vgg.exchange.route import Route

    count, vectors = net.parameter_count, 1 + len(state_names)
    shards_of_rank = [hosted(shards, comm.size, rank) for rank in range(comm.size)]
    products = products_of(net, config.micro_batch, shards)
    cut = Partition(count, comm.size, products.lo if products else None)
    cells = Cells(count, cut.grain, net.layer_starts().values()) if config.audit else None
    if make:
        return make(comm, count, shards_of_rank, state_names, standby, cells)
    together = shards_together(comm, net.ops.TOGETHER, config.micro_batch)
    hosts = count, shards_of_rank, vectors, together, cut.tail
    kind = choose(comm, config.route, *hosts)
    missing = standby and why_no_standby(comm, kind, *hosts)
    kept = "" if missing else standby
    route = Route(
        comm, count, shards_of_rank, state_names, kept, cells, kind=kind, together=together,
        products=products,
    )  # fmt: skip
    route.no_standby = missing or route.no_standby
    return route


def shards_together(comm: "MPI.Intracomm", images: int, micro_batch: int) -> int:
    """How many shards of a rank run together: up to so many `images`, between hosts twice as many.

    What goes over a link hides behind the images that a rank takes last in a step, and behind
    those that it takes first in the next.
    """
    from dist_vgg.exchange.nodes import has_several_hosts

    return images * (2 if has_several_hosts(comm) else 1) // micro_batch


def products_of(net: Sequential, micro_batch: int, shards: int) -> "Products | None":
    """The products whose factors are exchanged; None where whole gradients are.

    Factors may be more numbers, and with some kernels a part has other bits than the whole.
    """
    from dist_vgg.exchange.factors import Product, Products

    if not net.ops.BY_ROWS or not net.products:
        return None
    of_net = [Product(slot.lo, *slot.shape) for slot in net.products]
    products = Products(of_net, micro_batch, net.ops.linear_backward_weights)
    return products if products.pay(shards) else None


def learning_rate(
    config: TrainConfig, batches: Batches, arithmetic: Arithmetic = NUMPY
) -> tuple[float, Schedule]:
    """The rate after warm-up, scaled to the global batch, and the rate of each step."""
    rate = scaled_lr(config.base_lr, batches.global_size(0), config.lr_batch)
    warmup = config.warmup
    if config.warmup_epochs:
        warmup = max(1, round(config.warmup_epochs * batches.steps_per_epoch))
    steps = config.epochs * batches.steps_per_epoch
    return rate, schedule(config.schedule, rate, steps, warmup, arithmetic=arithmetic)
