"""The bytes that leave a host in a step, against the sizes that docs/how/factors.md has."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from dist_vgg.data.shards import hosted
from dist_vgg.doctor.traffic import sent_bytes
from dist_vgg.network.vgg import vgg
from dist_vgg.training.setup import products_of


def megabytes(nodes: Sequence[Sequence[int]], micro_batch: int, kernels: str = "compiled") -> float:
    """Those of the first node, with 8 shards, to one decimal place."""
    ranks = max(map(max, nodes)) + 1
    net = vgg(kernels=kernels)
    seen: Any = SimpleNamespace(
        all=nodes, home=nodes[0], elsewhere=nodes[1:], are_hosts=True,
        comm=SimpleNamespace(size=ranks),
    )  # fmt: skip
    hosting = [hosted(8, ranks, rank) for rank in range(ranks)]
    sent = sent_bytes(seen, net.parameter_count, hosting, products_of(net, micro_batch, 8))
    return round(sent / 1e6, 1)


@pytest.mark.parametrize(
    ("nodes", "micro_batch", "sent"),
    [
        ([(0,)], 16, 0),
        ([(0,), (1,)], 16, 63.6),
        ([(0,), (1,)], 64, 77.8),  # 3 * 4.7 MB more
        ([(0, 1), (2, 3)], 16, 63.6),
        ([(0,), (1,)], 128, 147.1),  # above 512 samples parameters travel
        ([(0,), (1,)], 256, 159.7),  # and then whole gradients
    ],
)
def test_factors_are_counted(nodes: Sequence[Sequence[int]], micro_batch: int, sent: float) -> None:
    assert megabytes(nodes, micro_batch) == sent


def test_whole_gradients_are_counted() -> None:
    assert megabytes([(0,), (1,)], 16, "numpy") == 159.7
    assert megabytes([(0,), (1,)], 999, "numpy") == 159.7
