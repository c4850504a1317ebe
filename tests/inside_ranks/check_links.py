"""Links between hosts, each rank standing for one; under mpirun with pytest-mpi."""

import errno
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from exchanges import comm
from mpi4py import MPI

from dist_vgg.mpi.collectives import barrier
from dist_vgg.recovery import links
from dist_vgg.recovery.links import Links

pytestmark = pytest.mark.mpi


@pytest.fixture
def connected() -> Iterator[Links]:
    made = Links(comm, MPI.COMM_SELF)
    expected = comm.size - 1 if comm.rank == 0 else 1
    if comm.size > 1:
        until(lambda: not made.lost() and len(made._links) == expected)
    barrier(comm)
    yield made
    barrier(comm)
    made.close()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_rank_that_ends_is_not_lost(connected: Links) -> None:
    if comm.rank == comm.size - 1:
        connected.close()
    if comm.rank == 0 and comm.size > 1:
        until(lambda: not connected.lost() and len(connected._links) == comm.size - 2)
    assert connected.lost() == []


def test_a_host_that_does_not_answer_is_lost(
    connected: Links, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "_ended", lambda link: errno.ETIMEDOUT)
    others = len(connected._links)
    assert connected.lost() == [MPI.Get_processor_name()] * others
    assert connected.lost() == []  # said once


def test_strangers_are_sent_away(connected: Links) -> None:
    if comm.rank == 0 and comm.size > 1:
        with socket.create_connection(("localhost", connected._port)) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            stranger.settimeout(0.01)

            def sent_away() -> bool:
                assert connected.lost() == []
                try:
                    return stranger.recv(1) == b""
                except TimeoutError:
                    return False

            until(sent_away)
        assert len(connected._links) == comm.size - 1


def test_a_connection_is_watched(connected: Links) -> None:
    for link in connected._links:
        assert link.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        for name, value in (("KEEPIDLE", 3), ("KEEPINTVL", 2), ("KEEPCNT", 5)):
            assert link.getsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_{name}")) == value
