"""The bytes that leave a host in a step, by the exchange's own rules of sizes."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dist_vgg.exchange.factors import Products
    from dist_vgg.exchange.nodes import Nodes
    from dist_vgg.exchange.partition import Slice


def sent_bytes(
    nodes: "Nodes",
    count: int,
    shards_of_rank: Sequence[Sequence[int]],
    products: "Products | None" = None,
) -> int:
    """What the ranks of this node send to others in a step of a network of `count` parameters.

    `products` may travel as factors, which decides what else does: see docs/how/factors.md.
    """
    from dist_vgg.exchange.factors import divided
    from dist_vgg.exchange.tree import remaining

    shards, others = sum(map(len, shards_of_rank)), len(nodes.elsewhere)
    partition = divided(count, nodes, products, shards)
    here = [shard for rank in nodes.home for shard in shards_of_rank[rank]]

    def owned(ranks: Iterable[int], buckets: Sequence["Slice"]) -> int:
        pieces = [partition.piece(bucket, rank) for rank in ranks for bucket in buckets]
        return sum(hi - lo for lo, hi in pieces)

    dense = [bucket for bucket in partition.buckets if bucket[0] < partition.tail]
    sums = len(remaining(((0, shard) for shard in here), shards))
    numbers = sums * sum(owned(ranks, dense) for ranks in nodes.elsewhere)
    returned = [bucket for bucket in partition.buckets if not partition.everywhere(bucket)]
    numbers += others * owned(nodes.home, returned)
    if products and partition.tail < count:
        numbers += others * len(here) * (1 + products.samples * products.columns)
    return 4 * numbers
