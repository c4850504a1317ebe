"""How gradients travel between ranks: the allreduce, in its two halves.

Gradients are added along a *fixed binary tree over the shards*, so that the sum is the same
bits at any number of ranks. Between the two halves of an allreduce each rank updates only
the slices that it owns (as in ZeRO stage 1; Rajbhandari et al., SC'20):

    reduce-scatter gradients  ->  update own slices  ->  all-gather parameters

A route only decides where memory lies and what crosses between processes. `flat` uses MPI
collectives alone and gives each rank a replica. `node` keeps one replica and all gradients of
a node in shared memory, where nothing is sent at all, and is `flat` between nodes.
Both are one algorithm: `flat` is `node` with nodes of one rank.

Between nodes the first half is hidden behind the computation: a thread sums and sends each
bucket of the gradient as soon as backward has finished it, while backward goes on with the
layers before.
"""

import os
import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar, cast

import numpy as np
from mpi4py import MPI

from dist_vgg.base.errors import RankError, UserError
from dist_vgg.mpi.collectives import (
    allgather_text,
    allreduce_sum,
    barrier,
    collective_errors,
    wait,
    waiting,
)
from dist_vgg.state import replica, shm
from dist_vgg.state.checksums import GRADIENT, PARAMETERS, Audit, parameter_digest
from dist_vgg.state.replica import Layout, Replica

T = TypeVar("T")
Block = tuple[int, int]  # (level, i): the sum over shards i*2**level ... (i+1)*2**level - 1

TILE_FLOATS = 1 << 15  # numbers to add at a time: eight such slices fit a core's L2 cache
LINE_FLOATS = 16  # in a cache line


def fold(blocks: dict[Block, T], shards: int, add: Callable[[T, T], object]) -> dict[Block, T]:
    """Add siblings into their parents, `add(left, right)`, until no sibling is left.

    The last shards of a number that is no power of two have parents with one child. What is
    added to what depends on `shards` alone; the blocks may arrive in any portions.
    """
    for level in range((shards - 1).bit_length()):
        for i in sorted(i for lv, i in blocks if lv == level and i % 2 == 0):
            right = (level, i + 1)
            has_right = (i + 1) << level < shards
            if has_right and right not in blocks:
                continue
            left = blocks.pop((level, i))
            if has_right:
                add(left, blocks.pop(right))
            blocks[level + 1, i // 2] = left
    return blocks


class LocalTree:
    """Sums one rank's micro-batches as they come, in as few vectors as the tree allows."""

    def __init__(self, shards: int) -> None:
        self.shards = shards
        self.vectors = 0  # needed so far
        self.clear()

    def clear(self) -> None:
        """Begin a new step."""
        self.blocks: dict[Block, int] = {}  # finished sums, and the vectors that hold them
        self._free = list(range(self.vectors))

    def next(self) -> int:
        """The vector to put the next micro-batch's gradient in."""
        if not self._free:
            self._free.append(self.vectors)
            self.vectors += 1
        return self._free[0]

    def add(self, shard: int, add: Callable[[int, int], object]) -> None:
        """Take the vector handed out last as this shard's gradient."""
        self.blocks[0, shard] = self._free.pop(0)

        def add_and_free(left: int, right: int) -> None:
            add(left, right)
            self._free.insert(0, right)

        fold(self.blocks, self.shards, add_and_free)

    def leave(self, shard: int) -> None:
        """Take it as well, but add nothing: what remains is added in the exchange, in one go."""
        self.blocks[0, shard] = self._free.pop(0)


def _plan(mine: Sequence[int], shards: int) -> LocalTree:
    """The tree of a rank after a step: which vectors it needs, and where its sums are."""
    tree = LocalTree(shards)
    for shard in mine:
        tree.next()
        if shard == mine[-1]:
            tree.leave(shard)
        else:
            tree.add(shard, lambda left, right: None)
    return tree


@dataclass(frozen=True)
class Partition:
    """How the flat vector is cut: into grains, buckets of grains, and a piece for each rank.

    Grains depend on the vector's length only, so a sum over each grain (the norm's) is the
    same at any number of ranks. Ranks own a piece of every bucket.
    """

    count: int
    ranks: int

    @property
    def grain(self) -> int:
        """Numbers in a grain: 16,384 for 40 million, 256 for the narrowest networks."""
        return max(256, 1 << max(0, self.count.bit_length() - 12))

    @property
    def grains(self) -> int:
        return -(-self.count // self.grain)

    @property
    def buckets(self) -> list[tuple[int, int]]:
        """(lo, hi) of each bucket, 256 grains long."""
        size = 256 * self.grain
        return [(lo, min(lo + size, self.count)) for lo in range(0, self.count, size)]

    def piece(self, bucket: tuple[int, int], rank: int) -> tuple[int, int]:
        """(lo, hi) of a rank's piece of a bucket."""
        lo, hi = bucket
        grains = -(-(hi - lo) // self.grain)
        first, last = (grains * r // self.ranks for r in (rank, rank + 1))
        return min(lo + first * self.grain, hi), min(lo + last * self.grain, hi)


class Route:
    """A step's way: `gradient`, `add` for each micro-batch; then `reduce_scatter`, `all_gather`.

    Backward may tell `ready` of each slice of a gradient that it has finished, from the end of
    the vector to its start.

    `replica` is this node's, and `params` its parameters. After `reduce_scatter`, `total[lo:hi]` is
    the summed gradient for each (lo, hi) in `owned`, the slices that this rank owns and updates in
    `params` and in the optimizer's `state`; `all_gather` then brings everyone's updated slices of
    the parameters to every replica.
    """

    def __init__(
        self,
        comm: MPI.Intracomm,
        kind: str,
        count: int,
        shards_of_rank: Sequence[Sequence[int]],
        state: Sequence[str] = (),
        run: str = "",
        cells: int = 0,
    ) -> None:
        """`kind` is "flat" or "node", see `choose`; `count` numbers make up the vector.

        `shards_of_rank` says which each rank hosts: every shard once, each rank at least one.
        `state` names the vectors of the optimizer. With the name of a `run` the replica is kept
        in memory that outlives the processes, see `replica`. It has room for the checksums of
        so many `cells` of each vector.
        """
        self.comm, self.kind = comm, kind
        self.shards = shards = sum(map(len, shards_of_rank))
        self.node = _neighbours(comm) if kind == "node" else _alone(comm)
        self.is_leader = self.node.rank == 0  # of the ranks that share a replica
        leaders = comm.Split(0 if self.is_leader else MPI.UNDEFINED, comm.rank)
        self.leaders = cast(MPI.Intracomm, leaders)
        self.partition = Partition(count, comm.size)
        self.local_shards = shards_of_rank[comm.rank]
        self.owned = [self.partition.piece(bucket, comm.rank) for bucket in self.partition.buckets]

        trees = [_plan(mine, shards) for mine in shards_of_rank]
        nodes = _nodes(comm, self.node)
        self.home = next(ranks for ranks in nodes if comm.rank in ranks)
        self._allocate(count, [trees[rank].vectors for rank in self.home])
        self.no_standby = ""  # why nothing is kept although the run has a name
        self.replica = self._make_replica(Layout(count, 1 + len(state), 1, cells), state, run)
        self.audit: Audit | None = None  # what checks all this, where the caller wants it

        def sums(ranks: tuple[int, ...]) -> list[Block]:
            parts = {block: None for rank in ranks for block in trees[rank].blocks}
            return list(fold(parts, shards, lambda left, right: None))

        # The node's sums when each of its ranks has added its own micro-batches ...
        self._parts = {
            block: self._vectors[local][vector]
            for local, rank in enumerate(self.home)
            for block, vector in trees[rank].blocks.items()
        }
        self._tree = trees[comm.rank]
        self._tree.clear()
        # ... and what remains of them, and where, when the node has added those.
        self._sums = fold(dict(self._parts), shards, lambda left, right: None)
        self.total = self._sums[_first(self._sums)]
        self._elsewhere = {ranks: sums(ranks) for ranks in nodes if ranks != self.home}
        # Each rank of a node deals with its share of the ranks elsewhere.
        self._partners = [
            rank
            for ranks in self._elsewhere
            for rank in ranks
            if _agent(self.home, rank) == comm.rank
        ]
        self._taken = 0  # micro-batches, in this step
        self._overlap: OverlapThread | None = None
        self._overlaps = bool(self._elsewhere) and MPI.Query_thread() >= MPI.THREAD_SERIALIZED

    def _allocate(self, count: int, vectors: Sequence[int]) -> None:
        """Gradient vectors for each of the node's ranks."""
        size = -(-count // LINE_FLOATS) * LINE_FLOATS
        sizes = [size * n for n in vectors]
        self.shared_bytes = 4 * sum(sizes) if self.node.size > 1 else 0
        if self.node.size == 1:
            self._window, memory = None, [aligned(sizes[0])]
        else:
            self._window, memory = _shared_memory(self.node, sizes)
        self._vectors = [
            [part[k * size :][:count] for k in range(n)]
            for part, n in zip(memory, vectors, strict=True)
        ]

    def _make_replica(self, layout: Layout, state: Sequence[str], run: str) -> Replica:
        """The node's replica: its ranks' common memory, kept after their end if it has a name."""
        if run:
            try:
                return self._shared_replica(replace(layout, copies=2), state, run)
            except UserError as error:
                self.no_standby = str(error)
        if self.kind == "flat":
            return replica.private(layout, state)
        memory = self._shared_replica(layout, state, f"unnamed-{uuid.uuid4().hex[:16]}")
        memory.remove()
        return memory

    def _shared_replica(self, layout: Layout, state: Sequence[str], name: str) -> Replica:
        """A replica in a file of shared memory; UserError on every rank where it can't be had."""
        path = shm.folder() / allgather_text(self.node, f"{name}-{self.comm.rank}")[0]
        used = [(0, (0, layout.count))]
        used += [(k, piece) for k in range(1, layout.vectors) for piece in self.owned_by_node()]
        handle = -1
        try:
            with collective_errors(self.comm):
                if self.is_leader:
                    handle = replica.create(path, layout, used)
        except UserError:
            if handle >= 0:  # it is another node that has no space
                path.unlink()
                os.close(handle)
            raise
        memory = replica.attach(path, layout, state)
        barrier(self.node)
        if handle >= 0:
            os.close(handle)
        self.shared_bytes += layout.copies * sum(4 * (hi - lo) for _, (lo, hi) in used)
        return memory

    def owned_by_node(self) -> list[tuple[int, int]]:
        """The slices that this node's ranks own together, in order; neighbours are joined."""
        joined: list[tuple[int, int]] = []
        for bucket in self.partition.buckets:
            for lo, hi in (self.partition.piece(bucket, rank) for rank in self.home):
                if joined and joined[-1][1] == lo:
                    joined[-1] = (joined[-1][0], hi)
                elif lo < hi:
                    joined.append((lo, hi))
        return joined

    @property
    def params(self) -> np.ndarray:
        """This node's parameters: the last step's, or from `swap` on those being written."""
        return self.replica.params

    @property
    def state(self) -> dict[str, np.ndarray]:
        """The optimizer's vectors by name; whole only where this node's ranks own all."""
        return self.replica.state

    def gradient(self) -> np.ndarray:
        """The flat vector that the next micro-batch's gradient is to be written to."""
        return self._vectors[self.node.rank][self._tree.next()]

    def ready(self, lo: int, hi: int) -> None:
        """Take note that `gradient` is finished from `lo` on: other nodes can have the last."""
        if self._overlaps and self._at_last:
            if self._overlap is None:
                self._overlap = OverlapThread(self.partition.buckets, self._finish)
            self._overlap.finished(lo)

    def add(self, shard: int) -> None:
        """Take the vector given out last as the gradient of this shard's micro-batch."""
        self.ready(0, self.partition.count)
        if self._at_last:
            self._tree.leave(shard)
        else:
            mine = self._vectors[self.node.rank]
            self._tree.add(shard, lambda a, b: np.add(mine[a], mine[b], out=mine[a]))
        self._taken += 1

    @property
    def _at_last(self) -> bool:
        """Whether the step's last micro-batch of this rank is being worked on."""
        return self._taken == len(self.local_shards) - 1

    def wait(self) -> None:
        """Wait for the slowest rank's gradients, and for what is still being sent."""
        if self._overlap:
            self._overlap.join()
        else:
            barrier(self.comm)

    def reduce_scatter(self) -> None:
        """Sum the gradients of all shards, each rank on the slices that it owns."""
        self._tree.clear()
        self._taken = 0
        if self._overlap:
            self._overlap.join()
            self._overlap = None
        else:
            self._meet()
            for bucket in self.partition.buckets:
                self._sum(bucket)

    def _finish(self, bucket: tuple[int, int]) -> None:
        """Sum a bucket while backward is still at work on those before it."""
        self._meet()
        self._sum(bucket)

    def _sum(self, bucket: tuple[int, int]) -> None:
        """Sum a bucket: over the node's ranks each rank its share, then over the nodes."""
        lo, hi = self.partition.piece(bucket, self.comm.rank)
        for rank in (self.comm.rank, *self._partners):
            piece = slice(*self.partition.piece(bucket, rank))
            _sum_along_tree({b: v[piece] for b, v in self._parts.items()}, self.shards)
        if self._elsewhere:
            sums = {b: v[lo:hi] for b, v in self._sums.items()} | self._trade(bucket)
            self.total[lo:hi] = _sum_along_tree(sums, self.shards)
        if self.audit:
            self.audit.note(GRADIENT, self.total, lo, hi)

    def _trade(self, bucket: tuple[int, int]) -> dict[Block, np.ndarray]:
        """Give other nodes this node's sums of their pieces; get theirs of the own piece."""
        lo, hi = self.partition.piece(bucket, self.comm.rank)
        here = list(self._sums.values())
        received: dict[Block, np.ndarray] = {}
        requests = []
        # A node has several sums where its shards make no whole branch of the tree.
        for k in range(max(len(here), *map(len, self._elsewhere.values()))):
            sends = {r: self.partition.piece(bucket, r) for r in self._partners if k < len(here)}
            givers = {ranks: bs[k] for ranks, bs in self._elsewhere.items() if k < len(bs)}
            space = np.empty((len(givers), hi - lo), np.float32)
            received |= dict(zip(givers.values(), space, strict=True))
            receives = {
                _agent(ranks, self.comm.rank): (row * (hi - lo), (row + 1) * (hi - lo))
                for row, ranks in enumerate(givers)
            }
            requests.append(self._exchange(here[k % len(here)], sends, space, receives))
        for request in requests:
            wait(request)
        return received

    def all_gather(self) -> None:
        """Bring the slices that each rank has updated to every replica."""
        for bucket, (lo, hi) in zip(self.partition.buckets, self.owned, strict=True):
            if self._elsewhere:
                sends = {_agent(ranks, self.comm.rank): (0, hi - lo) for ranks in self._elsewhere}
                receives = {rank: self.partition.piece(bucket, rank) for rank in self._partners}
                # MPI wants what is sent and what is received apart, hence the copy.
                wait(self._exchange(self.params[lo:hi].copy(), sends, self.params, receives))
        self._compare()

    def audit_all(self) -> None:
        """Note the checksums of the replica as it is now: at the start, or where a run goes on."""
        if self.audit:
            for piece in self.owned:
                self.audit.note(PARAMETERS, self.params, *piece)
                for name, vector in self.state.items():
                    self.audit.note(name, vector, *piece)
        self._compare()

    def check(self) -> None:
        """Raise RankError where the replica is no longer what the last step has left."""
        if self.audit:
            for piece in self.owned:
                for name, vector in self.state.items():
                    self.audit.check(name, vector, *piece)
                self.audit.check(PARAMETERS, self.params, *piece)
            self.check_copies()

    def check_copies(self) -> None:
        """Check this node's copies of what ranks elsewhere own; its ranks share the work.

        What the gradients were computed with is to be checked before anybody updates by them.
        """
        if self.audit:
            for bucket in self.partition.buckets:
                for rank in self._partners:
                    self.audit.check(PARAMETERS, self.params, *self.partition.piece(bucket, rank))

    def _compare(self) -> None:
        """Have all nodes know all checksums, and check the copies of what others own."""
        self._meet()
        if self.audit and self._elsewhere:
            if self.is_leader:
                tables, home = self.audit.tables, np.zeros(len(self.audit.cells), bool)
                for piece in self.owned_by_node():
                    home[self.audit.cells.within(*piece)] = True
                tables[:] = allreduce_sum(self.leaders, np.where(home, tables, np.uint64(0)))
            self._meet()
            self.check_copies()

    def _exchange(
        self,
        source: np.ndarray,
        sends: dict[int, tuple[int, int]],
        target: np.ndarray,
        receives: dict[int, tuple[int, int]],
    ) -> MPI.Request:
        """Send source[lo:hi] to the ranks in `sends`, receive into target[lo:hi] likewise."""

        def spec(places: dict[int, tuple[int, int]]) -> tuple[list[int], list[int]]:
            spans = [places.get(rank, (0, 0)) for rank in range(self.comm.size)]
            return [hi - lo for lo, hi in spans], [lo for lo, _ in spans]

        return self.comm.Ialltoallv(
            [source, spec(sends), MPI.FLOAT], [target, spec(receives), MPI.FLOAT]
        )

    def _meet(self) -> None:
        """Have what this node's ranks wrote to their memory seen by all of them."""
        if self._window:
            self._window.Sync()
            barrier(self.node)
            self._window.Sync()

    def squares(self) -> np.ndarray:
        """Sum of squares of each grain of the total gradient, float64; zeros where not owned.

        Added up over ranks and then over grains, it is the squared global norm, in an order
        that depends on no rank.
        """
        squares = np.zeros(self.partition.grains)
        for lo, hi in self.owned:
            for start in range(lo, hi, self.partition.grain):
                grain = self.total[start : min(start + self.partition.grain, hi)].astype(np.float64)
                squares[start // self.partition.grain] = grain @ grain
        return squares

    def broadcast(self) -> None:
        """Bring rank 0's parameters to every replica."""
        if self.is_leader:
            for lo, hi in self.partition.buckets:
                wait(self.leaders.Ibcast(self.params[lo:hi], root=0))
        self._meet()

    def gather(self, vector: np.ndarray) -> np.ndarray | None:
        """A whole vector on rank 0, of which each rank has the pieces that it owns."""
        if not self._elsewhere:
            self._meet()
            return vector if self.comm.rank == 0 else None
        full = np.empty(self.partition.count, vector.dtype) if self.comm.rank == 0 else None
        for bucket, (lo, hi) in zip(self.partition.buckets, self.owned, strict=True):
            counts = self._counts(bucket)
            target = None if full is None else [full[slice(*bucket)], counts]
            wait(self.comm.Igatherv(vector[lo:hi], target, root=0))
        return full

    def whole(self, vector: np.ndarray) -> np.ndarray:
        """A whole vector on every rank, as `gather`; it lies in `total`, until the next step."""
        full = self.gather(vector)
        if full is not None:
            self.total[:] = full
        if self.is_leader:
            for lo, hi in self.partition.buckets:
                wait(self.leaders.Ibcast(self.total[lo:hi], root=0))
        self._meet()
        return self.total

    def scatter(self, full: np.ndarray | None, vector: np.ndarray) -> None:
        """The inverse of `gather`: rank 0's whole vector into the pieces that each rank owns."""
        if not self._elsewhere:
            if full is not None:
                vector[:] = full
            self._meet()
            return
        for bucket, (lo, hi) in zip(self.partition.buckets, self.owned, strict=True):
            counts = self._counts(bucket)
            source = None if full is None else [full[slice(*bucket)], counts]
            wait(self.comm.Iscatterv(source, vector[lo:hi], root=0))

    def _counts(self, bucket: tuple[int, int]) -> list[int]:
        pieces = (self.partition.piece(bucket, rank) for rank in range(self.comm.size))
        return [hi - lo for lo, hi in pieces]

    def digest(self) -> str:
        """SHA-256 of the parameters, after comparing all replicas.

        Raises RankError on a rank whose replica is not what it was, or differs from rank 0's.
        """
        mine = parameter_digest(self.params) if self.is_leader else ""
        digests = allgather_text(self.comm, mine)
        if len(set(filter(None, digests))) > 1:
            if self.is_leader and self.audit:
                for bucket in self.partition.buckets:
                    self.audit.check(PARAMETERS, self.params, *bucket)
            barrier(self.comm)  # a rank that has found what is wrong does not come here
        if mine and mine != digests[0]:
            raise RankError(
                f"the replica of rank {self.comm.rank} on {MPI.Get_processor_name()} differs from "
                "that of rank 0 (faulty memory, or machines that compute differently); "
                "go on from the last good state with --resume",
                RankError.CORRUPT,
            )
        return digests[0]

    def close(self, keep: bool = False) -> None:
        """Give the shared memory back; the arrays must not be used any more.

        With `keep`, what was to outlive the processes does so.
        """
        if not keep:
            self.replica.remove()
        elif self.is_leader:
            self.replica.keep()
        if self._window:
            self._meet()
            self._window.Unlock_all()
            self._window.Free()
            self._window = None


class OverlapThread:
    """A thread that deals with each bucket of a gradient once it is finished, the last first.

    It waits for MPI politely (see `comm.wait`), so that the computation keeps the core; without
    a thread nothing moves, since MPI libraries work on requests only while they are called.
    """

    def __init__(
        self, buckets: Sequence[tuple[int, int]], deal: Callable[[tuple[int, int]], None]
    ) -> None:
        self._buckets, self._deal = buckets, deal
        self._from: float = np.inf  # where the finished part begins
        self._news = threading.Condition()
        self._error: BaseException | None = None
        # A daemon, so that a rank whose computation fails can end.
        self._thread = threading.Thread(target=self._run, name="exchange", daemon=True)
        self._thread.start()

    def finished(self, lo: int) -> None:
        """Say that all from `lo` on is finished."""
        with self._news:
            self._from = lo
            self._news.notify()

    def join(self) -> None:
        """Wait for all buckets; raise what went wrong."""
        with waiting():
            self._thread.join()
        if self._error:
            raise self._error

    def _run(self) -> None:
        try:
            for bucket in reversed(self._buckets):
                with self._news:
                    while self._from > bucket[0]:
                        self._news.wait()
                self._deal(bucket)
        except BaseException as error:  # handed to the thread that joins
            self._error = error


def choose(
    comm: MPI.Intracomm,
    wanted: str,
    count: int,
    shards_of_rank: Sequence[Sequence[int]],
    vectors: int = 1,
) -> str:
    """The route to take: "node" where ranks share a node whose shared memory suffices.

    A replica has so many `vectors`: the parameters, and the optimizer's. Raises UserError where
    "node" was asked for and can't be had.
    """
    if wanted == "flat":
        return "flat"
    node = _neighbours(comm)
    needed = _node_bytes(comm, node, count, shards_of_rank, vectors)
    free = _shared_memory_free()
    neighbours = allreduce_sum(
        comm, np.array([node.size > 1, node.size > 1 and free < needed], "i8")
    )
    with collective_errors(comm):
        if wanted == "node" and node.size > 1 and free < needed:
            raise UserError(
                f"--route node needs {needed >> 20} MiB of shared memory on "
                f"{MPI.Get_processor_name()}, and {shm.SHM} has {free >> 20} MiB free; "
                "enlarge it or use --route flat"
            )
    return "node" if wanted == "node" or (neighbours[0] and not neighbours[1]) else "flat"


def why_no_standby(
    comm: MPI.Intracomm,
    kind: str,
    count: int,
    shards_of_rank: Sequence[Sequence[int]],
    vectors: int,
) -> str:
    """Why replicas can't be kept in memory that outlives the processes; "" where they can."""
    node = _neighbours(comm)
    if kind == "flat":
        needed = 2 * 4 * count * (node.size + vectors - 1)
    else:
        needed = _node_bytes(comm, node, count, shards_of_rank, vectors) + 4 * count * vectors
    free = _shared_memory_free()
    short = ""
    try:
        shm.make_folder()
        if free < needed:
            short = f"{shm.SHM} has {free >> 20} MiB free of {needed >> 20} needed"
    except OSError as error:
        short = f"{error.filename}: {error.strerror}"
    short = short and f"{short} on {MPI.Get_processor_name()}"
    return next((text for text in allgather_text(comm, short) if text), "")


def _node_bytes(
    comm: MPI.Intracomm,
    node: MPI.Intracomm,
    count: int,
    shards_of_rank: Sequence[Sequence[int]],
    vectors: int,
) -> int:
    """Bytes of shared memory for all gradients of this node, and for one copy of its replica."""
    shards = sum(map(len, shards_of_rank))
    home = next(ranks for ranks in _nodes(comm, node) if comm.rank in ranks)
    return (sum(_plan(shards_of_rank[rank], shards).vectors for rank in home) + vectors) * count * 4


def aligned(count: int) -> np.ndarray:
    """Uninitialised float32 numbers that begin at a cache line, as shared memory does."""
    space = np.empty(count + LINE_FLOATS, np.float32)
    start = -space.ctypes.data % (4 * LINE_FLOATS) // 4
    return space[start : start + count]


def _sum_along_tree(blocks: dict[Block, np.ndarray], shards: int) -> np.ndarray:
    """Add arrays in place along the tree; the leftmost, where the sum then lies."""
    first = blocks[_first(blocks)]
    for lo in range(0, len(first), TILE_FLOATS):
        part = {block: array[lo : lo + TILE_FLOATS] for block, array in blocks.items()}
        fold(part, shards, lambda left, right: np.add(left, right, out=left))
    return first


def _first(blocks: Iterable[Block]) -> Block:
    """The block of the lowest shard."""
    return min(blocks, key=lambda block: block[1] << block[0])


def _agent(ranks: tuple[int, ...], other: int) -> int:
    """Which of a node's ranks deals with a rank elsewhere."""
    return ranks[other % len(ranks)]


def _neighbours(comm: MPI.Intracomm) -> MPI.Intracomm:
    """The ranks that share this rank's memory."""
    return cast(MPI.Intracomm, comm.Split_type(MPI.COMM_TYPE_SHARED))


def _alone(comm: MPI.Intracomm) -> MPI.Intracomm:
    """This rank by itself."""
    return cast(MPI.Intracomm, comm.Split(comm.rank))


def _nodes(comm: MPI.Intracomm, node: MPI.Intracomm) -> list[tuple[int, ...]]:
    """The ranks of each node, known to all."""
    leader = np.zeros(comm.size, np.int64)
    mine = np.zeros(node.size, np.int64)
    mine[node.rank] = comm.rank
    leader[comm.rank] = allreduce_sum(node, mine)[0]
    allreduce_sum(comm, leader)
    return [tuple(np.flatnonzero(leader == first).tolist()) for first in np.unique(leader)]


def _shared_memory_free() -> int:
    """Bytes that shared windows may take. MPICH dies of SIGBUS where there are fewer."""
    if not shm.SHM.is_dir():
        return 0
    status = os.statvfs(shm.SHM)
    return status.f_bavail * status.f_frsize


def _shared_memory(node: MPI.Intracomm, sizes: Sequence[int]) -> tuple[MPI.Win, list[np.ndarray]]:
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
