"""Gradients from their factors: x and dy of every shard are exchanged, and not x' dy.

The gradient of a fully connected layer is a product of two thin matrices, x' (inputs, samples) and
dy (samples, outputs), and many times as large as both. Those of all shards come to every node, and
who owns a slice of the gradient computes it from them, shard by shard, and adds along the tree
(sufficient factors: Xie et al., "Lighter-communication distributed machine learning via sufficient
factor broadcasting", UAI 2016; mixed with dense exchange as in Zhang et al., "Poseidon", USENIX
ATC 2017). Nothing is approximated: the bits are those of the sum of the shards' whole gradients.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from mpi4py import MPI

from dist_vgg.exchange.memory import GradientMemory
from dist_vgg.exchange.nodes import Nodes
from dist_vgg.exchange.partition import Partition, Slice
from dist_vgg.mpi.collectives import wait

# (counts, lo, x, dy): the factors of the product that begins at `lo`, with so many samples of each
# shard of the branch.
TakeFactors = Callable[[Sequence[int], int, np.ndarray, np.ndarray], None]

# With more samples in a step, to compute a number of the gradient on every node takes longer than
# to send it: 2 * 512 operations take a core some 20 ns, and 32 bits on a link of 1 Gbit/s 32 ns.
SAMPLES_AT_EVERY_NODE = 512


@dataclass(frozen=True)
class Product:
    """A slice of the flat vector whose gradient is x' dy, and behind it the sum of dy's rows."""

    lo: int
    inputs: int  # columns of x
    outputs: int  # columns of dy

    @property
    def bias(self) -> int:
        """Where x' dy ends."""
        return self.lo + self.inputs * self.outputs

    @property
    def hi(self) -> int:
        return self.bias + self.outputs


@dataclass(frozen=True)
class Products:
    """The products that the end of a flat vector consists of, and how their gradient is computed.

    Each shard contributes at most so many `samples` to a step. `write(dy, x, dw, db, counts)`
    computes gradients as kernels do. Whichever columns of x it is given, it must have the same
    bits, and add those of so many samples each, `counts`, along the tree.
    """

    all: Sequence[Product]
    samples: int
    write: Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Sequence[int]], object]

    @property
    def lo(self) -> int:
        """Where the first begins."""
        return self.all[0].lo

    @property
    def columns(self) -> int:
        """Numbers that factors have for a sample."""
        return sum(product.inputs + product.outputs for product in self.all)

    def pay(self, shards: int) -> bool:
        """Whether the factors of all shards are fewer numbers than the gradient.

        A rule of the shards, the micro-batch and the network: of these it is the ranks' choice.
        """
        return shards * (1 + self.samples * self.columns) < self.all[-1].hi - self.lo

    def at_every_node(self, shards: int) -> bool:
        """Whether every node is to compute and update all of them, so that no parameters travel."""
        return shards * self.samples <= SAMPLES_AT_EVERY_NODE

    def write_part(
        self, out: np.ndarray, lo: int, hi: int, product: Product, xs: Sequence[np.ndarray],
        dy: np.ndarray, counts: Sequence[int],
    ) -> None:  # fmt: skip
        """out[lo:hi] = a product's gradient, where it lies within; `xs` are x in any portions."""
        start, size = product.lo, product.outputs
        lo, hi = max(lo, start), min(hi, product.hi)
        end, db = min(hi, product.bias), np.empty(size, out.dtype)

        def rows(first: int, last: int, dw: np.ndarray) -> np.ndarray:
            x = np.concatenate([x[:, first:last] for x in xs])
            self.write(dy, x, dw.reshape(last - first, size), db, counts)
            return dw

        if lo < end:
            first, last = -(-(lo - start) // size), (end - start) // size
            if first < last:  # whole rows can be written where they belong
                rows(first, last, out[start + first * size : start + last * size])
            # Slices of owners begin and end within rows.
            for row in {(lo - start) // size, (end - 1 - start) // size} - {*range(first, last)}:
                begin = start + row * size
                a, b = max(lo, begin), min(end, begin + size)
                out[a:b] = rows(row, row + 1, np.empty(size, out.dtype))[a - begin : b - begin]
        lo = max(lo, product.bias)
        if lo < hi:
            rows(0, 1, np.empty(size, out.dtype))  # for what it writes into db
            out[lo:hi] = db[lo - product.bias : hi - product.bias]


def divided(count: int, nodes: Nodes, products: Products | None, shards: int) -> Partition:
    """The partition of a vector: with a tail where gradients are to come from their factors."""
    if not products or not products.pay(shards):
        return Partition(count, nodes.comm.size)
    several = nodes.elsewhere and nodes.are_hosts  # else ranks of a host would compute the same
    at_every = nodes.all if several and products.at_every_node(shards) else ()
    return Partition(count, nodes.comm.size, products.lo, at_every)


class Factors:
    """The factors of all shards in a step, in memory that the node's ranks share.

    `sum` is collective: every rank calls it at the same time.
    """

    def __init__(
        self,
        products: Products,
        nodes: Nodes,
        partition: Partition,
        shards_of_rank: Sequence[Sequence[int]],
    ) -> None:
        self._products, self._samples, self.lo = products, products.samples, products.lo
        self._nodes, self._partition = nodes, partition
        shards = [[s for rank in ranks for s in shards_of_rank[rank]] for ranks in nodes.all]
        # A shard's number of samples, which floats hold exactly, then x and dy of each product.
        self._size = 1 + products.samples * products.columns
        sizes = [self._size * len(of_node) for of_node in shards]
        whole = [1] + [0] * (nodes.node.size - 1)  # the leader has the memory of the node
        self.memory = GradientMemory(nodes.node, sum(sizes), whole)
        self._flat = self.memory.vectors[0][0]
        self._spans = sizes, [sum(sizes[:k]) for k in range(len(sizes))]
        self._sent = 4 * self._size * len(shards[nodes.all.index(nodes.home)])
        self._place = {s: k for k, s in enumerate(s for of_node in shards for s in of_node)}
        self.clear(shards_of_rank[nodes.comm.rank])
        self._found: list[tuple[Product, Sequence[np.ndarray], np.ndarray]] = []
        self._counts: list[int] = []
        self.sent_bytes = 0  # to other nodes, by this rank, since the start

    def clear(self, shards: Sequence[int]) -> None:
        """Take it that these shards contribute nothing, until `put` says otherwise."""
        for shard in shards:
            self._of(shard)[0] = 0

    def put(
        self,
        gradient: np.ndarray,
        shards: Sequence[int],
        counts: Sequence[int],
        lo: int,
        x: np.ndarray,
        dy: np.ndarray,
    ) -> None:
        """Take x and dy of the product that begins at `lo`: of each shard so many samples.

        What lies ahead of the tail, in a grain with other gradients, is written to `gradient`.
        """
        product = next(product for product in self._products.all if product.lo == lo)
        tail = self._partition.tail
        self._products.write_part(gradient, lo, tail, product, [x], dy, counts)
        end = 0
        for shard, count in zip(shards, counts, strict=True):
            own = self._of(shard)
            own[0] = count
            places = self._places(own, count)
            for product, (x_place, dy_place) in zip(self._products.all, places, strict=True):
                if product.lo == lo:
                    x_place[:], dy_place[:] = x[end : end + count], dy[end : end + count]
            end += count

    def _gather(self) -> None:
        """Bring the factors of all shards to every node."""
        self.memory.meet()
        if self._nodes.elsewhere:
            if self._nodes.is_leader:
                sizes, starts = self._spans
                target = [self._flat, (sizes, starts), MPI.FLOAT]
                wait(self._nodes.leaders.Iallgatherv(MPI.IN_PLACE, target))
                self.sent_bytes += self._sent * len(self._nodes.elsewhere)
            self.memory.meet()
        own = [self._of(shard) for shard in range(len(self._place))]
        self._counts = [int(numbers[0]) for numbers in own]
        places = [self._places(*each) for each in zip(own, self._counts, strict=True)]
        self._found = []
        for product, *shards in zip(self._products.all, *places, strict=True):
            xs, dys = zip(*shards, strict=True)
            self._found.append((product, xs, np.concatenate(dys)))

    def sum(self, bucket: Slice, total: np.ndarray) -> None:
        """Write what this rank owns of a bucket; the last bucket must be the first to come."""
        if bucket == self._partition.buckets[-1]:
            self._gather()
        lo, hi = self._partition.piece(bucket, self._nodes.comm.rank)
        for product, xs, dy in self._found:
            self._products.write_part(total, lo, hi, product, xs, dy, self._counts)

    def _of(self, shard: int) -> np.ndarray:
        """All numbers of a shard."""
        return self._flat[self._place[shard] * self._size :][: self._size]

    def _places(self, numbers: np.ndarray, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Where a shard with so many samples has x and dy, of each product."""
        found, end = [], 1
        for product in self._products.all:
            widths = product.inputs, product.outputs
            x, dy = (
                numbers[begin:][: count * width].reshape(count, width)
                for begin, width in zip((end, end + self._samples * widths[0]), widths, strict=True)
            )
            found.append((x, dy))
            end += self._samples * sum(widths)
        return found
