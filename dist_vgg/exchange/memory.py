"""A node's vectors in memory: private to one rank, or shared by the ranks of a node.

Gradients last as long as the processes, and lie in an MPI-3 shared window (Hoefler et al., "MPI +
MPI: a new hybrid approach to parallel programming with MPI plus shared memory", Computing 95,
2013). A replica may outlive the processes, and so lies in a file of /dev/shm.
"""

import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from mpi4py import MPI

from dist_vgg.base.errors import UserError
from dist_vgg.exchange.nodes import Nodes
from dist_vgg.exchange.partition import Partition
from dist_vgg.mpi.collectives import allgather_text, barrier, collective_errors
from dist_vgg.state import replica, shm
from dist_vgg.state.replica import LINE_FLOATS, Layout, Replica


class GradientMemory:
    """Gradient vectors of all ranks of a node, each written by one rank and read by all.

    `vectors` has those of each rank, in the order of `node`; `mine` are this rank's.
    """

    def __init__(
        self, node: MPI.Intracomm, count: int, vectors: Sequence[int], tail: int | None = None
    ) -> None:
        """`vectors` says how many vectors of `count` float32 numbers each rank needs.

        Nobody may write what is behind the `tail`, but in one of them: the system gives memory to
        no page that nobody has written.
        """
        size = -(-count // LINE_FLOATS) * LINE_FLOATS
        sizes = [size * n for n in vectors]
        self._node = node
        self._window: MPI.Win | None = None
        self.shared_bytes = 0
        if node.size == 1:
            memory = [aligned(sizes[0])]
        else:
            self._window, memory = _shared_window(node, sizes)
            unwritten = 0 if tail is None else count - tail
            self.shared_bytes = 4 * (sum(sizes) - unwritten * (sum(vectors) - 1))
        self.vectors = [
            [part[k * size :][:count] for k in range(n)]
            for part, n in zip(memory, vectors, strict=True)
        ]
        self.mine = self.vectors[node.rank]

    def meet(self) -> None:
        """Wait for the node's ranks; then each sees what the others have written."""
        if self._window:
            self._window.Sync()
            barrier(self._node)
            self._window.Sync()

    def close(self) -> None:
        """Give shared memory back; the vectors must not be used any more."""
        if self._window:
            self.meet()
            self._window.Unlock_all()
            self._window.Free()
            self._window = None


def aligned(count: int) -> np.ndarray:
    """Uninitialised float32 numbers that begin at a cache line, as shared memory does."""
    space = np.empty(count + LINE_FLOATS, np.float32)
    start = -space.ctypes.data % (4 * LINE_FLOATS) // 4
    return space[start : start + count]


def _shared_window(node: MPI.Intracomm, sizes: Sequence[int]) -> tuple[MPI.Win, list[np.ndarray]]:
    """A window with float32 numbers for each rank of a node, seen by all of them."""
    info = MPI.Info.Create()
    info.Set("alloc_shared_noncontig", "true")  # each rank's part begins at a page
    window = MPI.Win.Allocate_shared(4 * sizes[node.rank], 4, info, node)
    info.Free()
    window.Lock_all(MPI.MODE_NOCHECK)
    parts = []
    for local, size in enumerate(sizes):
        memory, _ = window.Shared_query(local)
        parts.append(np.frombuffer(memory.cast("f"), np.float32, size))
    return window, parts


@dataclass
class NodeReplica:
    """A node's replica, and what a run reports of its memory."""

    replica: Replica
    shared_bytes: int = 0
    no_standby: str = ""  # why nothing outlives the processes although a standby was asked for


def make_replica(
    nodes: Nodes,
    partition: Partition,
    state: Sequence[str],
    cells: int,
    standby: str,
    private: bool,
) -> NodeReplica:
    """The replica that a node's ranks share; `private`, where each rank has its own.

    With the name of a `standby` there are two copies in memory that outlives the processes, if
    there is room. It holds the parameters, the vectors that `state` names, and the checksums of
    so many `cells` of each.
    """
    layout = Layout(partition.count, 1 + len(state), 1, cells)
    no_standby = ""
    if standby:
        try:
            return _in_file(nodes, partition, replace(layout, copies=2), state, standby)
        except UserError as error:
            no_standby = str(error)
    if private:
        return NodeReplica(replica.private(layout, state), no_standby=no_standby)
    found = _in_file(nodes, partition, layout, state, f"unnamed-{uuid.uuid4().hex[:16]}")
    found.replica.remove()
    found.no_standby = no_standby
    return found


def _in_file(
    nodes: Nodes, partition: Partition, layout: Layout, state: Sequence[str], name: str
) -> NodeReplica:
    """A replica in a file of shared memory; UserError on every rank where it can't be had."""
    path = shm.folder() / allgather_text(nodes.node, f"{name}-{nodes.comm.rank}")[0]
    used = [(0, (0, layout.count))]
    used += [(k, s) for k in range(1, layout.vectors) for s in partition.owned_by(nodes.home)]
    handle = -1
    try:
        with collective_errors(nodes.comm):
            if nodes.is_leader:
                handle = replica.create(path, layout, used)
    except UserError:
        if handle >= 0:  # it is another node that has no space
            path.unlink()
            os.close(handle)
        raise
    memory = replica.attach(path, layout, state)
    barrier(nodes.node)
    if handle >= 0:
        os.close(handle)
    return NodeReplica(memory, layout.copies * sum(4 * (hi - lo) for _, (lo, hi) in used))
