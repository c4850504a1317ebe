"""Any exchange that keeps the protocol has the same bits; under mpirun with pytest-mpi."""

import numpy as np
import pytest
from exchanges import CONTIGUOUS, COUNT, ROUND_ROBIN, Hosts, comm, opened, plain_sum, step

from dist_vgg.exchange.naive import Naive
from dist_vgg.exchange.protocol import Exchange
from dist_vgg.mpi.collectives import allreduce_sum

pytestmark = pytest.mark.mpi
STEPS = 3


def outcome(exchange: Exchange) -> tuple[str, np.ndarray, float]:
    """The digest, whole momentum and gradient norm after some steps from the same parameters."""
    if comm.rank == 0:
        exchange.params[:] = plain_sum(7)
    exchange.vectors.broadcast()
    for lo, hi in exchange.owned:
        exchange.state["momentum"][lo:hi] = 0
    if exchange.audit:
        exchange.audit.note_all()
    for number in range(STEPS):
        step(exchange, number)
    squares = exchange.partition.squares(exchange.total, exchange.owned)
    digest = exchange.vectors.digest()
    momentum = exchange.vectors.whole(exchange.state["momentum"]).copy()
    return digest, momentum, float(allreduce_sum(comm, squares).sum())


@pytest.mark.parametrize("hosts", (CONTIGUOUS, ROUND_ROBIN), ids=["contiguous", "round robin"])
def test_the_naive_exchange_and_the_routes_agree(hosts: Hosts) -> None:
    expected = outcome(Naive(comm, COUNT, hosts, ["momentum"]))
    for kind in ("flat", "node"):
        with opened(kind, hosts, state=["momentum"], audited=True) as route:
            for value, other in zip(outcome(route), expected, strict=True):
                assert np.array_equal(value, other)
