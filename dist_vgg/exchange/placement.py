"""The placement of vectors: in private or in shared memory, by what the nodes have room for."""

from collections.abc import Sequence

import numpy as np
from mpi4py import MPI

from dist_vgg.base.errors import UserError
from dist_vgg.exchange.nodes import neighbours, ranks_of_nodes
from dist_vgg.exchange.tree import branches, plan
from dist_vgg.mpi.collectives import allgather_text, allreduce_sum, collective_errors, freed
from dist_vgg.state import shm


def choose(
    comm: MPI.Intracomm,
    wanted: str,
    count: int,
    shards_of_rank: Sequence[Sequence[int]],
    vectors: int = 1,
    together: int = 1,
    tail: int | None = None,
) -> str:
    """The route to take: "node" where ranks share a node whose shared memory suffices.

    A replica has so many `vectors` of `count` numbers: the parameters, and the optimizer's. Of a
    rank's shards so many run `together`. Gradients come from their factors from `tail` on.
    Raises UserError where "node" was asked for and can't be had.
    """
    if wanted == "flat":
        return "flat"
    with freed(neighbours(comm)) as node:
        needed = node_bytes(comm, node, count, shards_of_rank, vectors, together, tail)
        several = node.size > 1
    free = shm.bytes_free()
    shared = allreduce_sum(comm, np.array([several, several and free < needed], "i8"))
    with collective_errors(comm):
        if wanted == "node" and several and free < needed:
            raise UserError(
                f"--route node needs {needed >> 20} MiB of shared memory on "
                f"{MPI.Get_processor_name()}, and {shm.SHM} has {free >> 20} MiB free; "
                "enlarge it or use --route flat"
            )
    return "node" if wanted == "node" or (shared[0] and not shared[1]) else "flat"


def why_no_standby(
    comm: MPI.Intracomm,
    kind: str,
    count: int,
    shards_of_rank: Sequence[Sequence[int]],
    vectors: int,
    together: int = 1,
    tail: int | None = None,
) -> str:
    """Why replicas can't be kept in memory that outlives the processes; "" where they can."""
    with freed(neighbours(comm)) as node:
        replicas = node.size if kind == "flat" else 1
        # Two copies of each, of what ranks own as well. Every node may own all of a tail.
        needed = 2 * 4 * count * (replicas + vectors - 1)
        gradients = node_bytes(comm, node, count, shards_of_rank, 0, together, tail)
        if kind == "node" and node.size > 1:  # else they lie in private memory
            needed += gradients
    free = shm.bytes_free()
    short = ""
    try:
        shm.make_folder()
        if free < needed:
            short = f"{shm.SHM} has {free >> 20} MiB free of {needed >> 20} needed"
    except OSError as error:
        short = f"{error.filename}: {error.strerror}"
    short = short and f"{short} on {MPI.Get_processor_name()}"
    return next((text for text in allgather_text(comm, short) if text), "")


def node_bytes(
    comm: MPI.Intracomm,
    node: MPI.Intracomm,
    count: int,
    shards_of_rank: Sequence[Sequence[int]],
    vectors: int,
    together: int,
    tail: int | None = None,
) -> int:
    """Bytes of shared memory for all gradients of this node, and for one copy of its replica.

    Collective over all nodes.
    """
    shards = sum(map(len, shards_of_rank))
    home = next(ranks for ranks in ranks_of_nodes(comm, node) if comm.rank in ranks)
    gradients = sum(plan(branches(shards_of_rank[r], together), shards).vectors for r in home)
    written = count if tail is None else tail
    # Behind the tail one vector has the sum, and the factors are fewer numbers than that.
    return 4 * (gradients * written + 2 * (count - written) + vectors * count)
