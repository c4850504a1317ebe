"""The exchange of what each host knows of its ranks."""

import json
import os
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, cast

from dist_vgg.mpi.collectives import allgather_text
from dist_vgg.recovery.board import RankStatus

if TYPE_CHECKING:
    from mpi4py import MPI

TAG = 1
LOST = "its host has gone silent"


class PeerHosts:
    """Tells the other hosts what this one knows of its ranks, and hears of theirs.

    The first rank of each host, its leader, does so for all. Nobody is waited for before `close`.
    """

    def __init__(self, comm: "MPI.Intracomm", host: "MPI.Intracomm", timeout: float) -> None:
        """`host` has the ranks of this host; one not heard of for `timeout` seconds is lost."""
        from mpi4py import MPI

        first = host.rank == 0
        leaders = cast("MPI.Intracomm", comm.Split(0 if first else MPI.UNDEFINED, comm.rank))
        leader = int(allgather_text(host, str(comm.rank))[0])
        about = json.dumps([leader, MPI.Get_processor_name(), os.getpid()])
        everyone = [json.loads(text) for text in allgather_text(comm, about)]
        hosts = sorted({leader for leader, _, _ in everyone})
        # Another thread computes at the same time, and talks to MPI as well.
        works = len(hosts) > 1 and MPI.Query_thread() == MPI.THREAD_MULTIPLE
        self._leaders = leaders if works and first else None
        self._timeout = timeout
        # By leader. A host may fall silent before it has ever been heard.
        self._news: dict[int, list[dict[str, Any]]] = {}
        for rank, (leads, name, pid) in enumerate(everyone):
            if leads != leader:
                status = asdict(RankStatus(rank, name, pid, 0, "start", False))
                self._news.setdefault(hosts.index(leads), []).append(status)
        self._silence = dict.fromkeys(self._news, 0.0)  # seconds
        self._sent: dict[int, MPI.Request] = {}

    def exchange(self, here: list[RankStatus], passed: float) -> list[RankStatus]:
        """Send what is known of this host's ranks, `passed` seconds after the last exchange.

        Returns the latest news of all other ranks.
        """
        if self._leaders is None:
            return []
        for leader in self._silence:
            self._silence[leader] += passed
        self._receive()
        text = json.dumps([asdict(status) for status in here]).encode()
        for leader in range(self._leaders.size):
            # A host that takes nothing is not to fill our memory.
            if leader != self._leaders.rank and self._has_taken(leader):
                self._sent[leader] = self._leaders.Isend(text, leader, TAG)
        return [
            self._as_of_now(leader, RankStatus(**status))
            for leader, news in self._news.items()
            for status in news
        ]

    def _has_taken(self, leader: int) -> bool:
        """Whether the last message to a leader has left."""
        return leader not in self._sent or bool(self._sent[leader].Test())

    def _as_of_now(self, leader: int, status: RankStatus) -> RankStatus:
        """What a leader said of a rank, unless its host has been silent for too long."""
        silence = self._silence[leader]
        if silence < self._timeout:
            return status
        return replace(status, quiet=silence, state=LOST)

    def _receive(self) -> None:
        from mpi4py import MPI

        assert self._leaders
        status = MPI.Status()
        while self._leaders.Iprobe(MPI.ANY_SOURCE, TAG, status):
            text = bytearray(status.Get_count(MPI.BYTE))
            self._leaders.Recv(text, status.Get_source(), TAG)
            self._news[status.Get_source()] = json.loads(text.decode())
            self._silence[status.Get_source()] = 0.0

    def close(self) -> None:
        """Receive whatever is still on its way, so that MPI can end. Every host must come here."""
        if self._leaders is None:
            return
        while not all(map(self._has_taken, self._sent)):
            self._receive()
            time.sleep(1e-3)
        request = self._leaders.Ibarrier()
        while not request.Test():
            self._receive()  # another host can't finish before we have taken its message
            time.sleep(1e-3)
        self._receive()
