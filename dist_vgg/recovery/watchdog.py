"""The watchdog: it names a rank that makes no progress and ends the job, so no job hangs silently.

Every rank notes its heartbeats on a board that its host's ranks share, and a thread of each rank
watches the board. A rank has stalled if it is quiet for too long and does anything but wait for
others. The whole job has stalled if all ranks wait: they are in different collectives. Hosts tell
each other what they see, and notice one that is cut off.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from dist_vgg.base import files
from dist_vgg.base.command_line import tell
from dist_vgg.base.errors import RankError
from dist_vgg.mpi import collectives
from dist_vgg.mpi.collectives import barrier
from dist_vgg.mpi.command import LAST_WORDS
from dist_vgg.recovery.board import Board, Heartbeat, RankStatus
from dist_vgg.recovery.links import SILENCE, Links
from dist_vgg.recovery.peer_hosts import PeerHosts

if TYPE_CHECKING:
    from mpi4py import MPI

Beat = Callable[[str, int], object]  # takes what has been done, and the step


class Watchdog:
    """The thread that watches the board and judges."""

    def __init__(self, comm: "MPI.Intracomm", timeout: float) -> None:
        """A rank stalls after `timeout` seconds without progress. Every rank must come here."""
        from mpi4py import MPI

        self._comm, self._timeout = comm, timeout
        self._interval = min(1.0, timeout / 10)
        host = _ranks_of_host(comm)
        self._host = MPI.Get_processor_name()
        self.board = Board(host, comm.rank)
        self._peers = PeerHosts(comm, host, timeout)
        self._links = Links(comm, host)
        # Of this host's ranks, with the beats that they had.
        self._known: dict[int, tuple[int, RankStatus]] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the watch. Every rank must come here."""
        self.stop()
        self.board.finish()
        self._peers.close()

    def stop(self) -> None:
        """Stop watching, without waiting for other ranks."""
        self._end.set()
        self._thread.join()
        self._links.close()

    def _run(self) -> None:
        last = time.monotonic()
        while not self._end.wait(self._interval):
            now = time.monotonic()
            # A long gap means that this process was itself suspended, as by Ctrl-Z.
            passed = min(now - last, 2 * self._interval)
            last = now
            if lost := self._links.lost():
                self._end_job(
                    f"{', '.join(lost)} has not answered for {SILENCE} s: the host, or the link to "
                    "it, is down"
                )
            here = self._look(passed)
            self._judge(here, self._peers.exchange(here, passed))

    def _look(self, passed: float) -> list[RankStatus]:
        """What is known of this host's ranks, `passed` seconds after the last look."""
        for heartbeat in self.board.heartbeats():
            if heartbeat.beats < 0:
                self._known.pop(heartbeat.rank, None)
            else:
                self._known[heartbeat.rank] = heartbeat.beats, self._status(heartbeat, passed)
        return [status for _, status in self._known.values()]

    def _status(self, heartbeat: Heartbeat, passed: float) -> RankStatus:
        rank, pid, beats, step, waits, done = heartbeat
        before, known = self._known.get(rank, (-1, None))
        quiet = known.quiet + passed if known and before == beats else 0.0
        text = done.rstrip(b"\0").decode(errors="replace")
        return RankStatus(rank, self._host, pid, step, text, bool(waits), quiet, _state(pid))

    def _judge(self, here: list[RankStatus], elsewhere: list[RankStatus]) -> None:
        """End the job if a rank has stalled and this rank is the one to report it."""
        quiet = [status for status in here if status.quiet >= self._timeout]
        culprits = [status for status in quiet if status.stalls]
        if not culprits:
            everybody = here + elsewhere
            if not everybody or any(status.quiet < self._timeout for status in everybody):
                return
            # All wait, each in a collective that the others don't come to, if nobody stands out.
            culprits = [status for status in everybody if status.stalls] or everybody
        named = {status.rank for status in culprits}
        # All see the same; the first that can speak does.
        speakers = [status.rank for status in here if status.rank not in named] or sorted(named)
        if self._comm.rank == min(speakers):
            self._end_job("; ".join(status.describe() for status in culprits))

    def _end_job(self, words: str) -> None:
        if not self.board.claim_report():
            return  # the job is ending, and the rank that said so may look dead already
        tell(f"dist_vgg.train: error: {words}")
        if self._comm.size > 1:
            time.sleep(LAST_WORDS)
            self._comm.Abort(RankError.STALLED)
        os._exit(RankError.STALLED)


def _ranks_of_host(comm: "MPI.Intracomm") -> "MPI.Intracomm":
    """The ranks of this rank's host."""
    from mpi4py import MPI

    return cast("MPI.Intracomm", comm.Split_type(MPI.COMM_TYPE_SHARED))


def _state(pid: int) -> str:
    """What the system says of a process of this host that may explain its silence."""
    try:
        # "pid (name) state ...": the name may hold spaces and brackets.
        letter = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "dead" if Path("/proc/self").exists() else ""
    except OSError:
        return ""
    return {"T": "stopped", "t": "stopped", "Z": "dead", "X": "dead"}.get(letter, "")


@contextmanager
def watched(comm: "MPI.Intracomm", timeout: float) -> Iterator[Beat]:
    """Watch over the ranks during the block, which calls the `Beat` that it gets after each thing.

    With a timeout of 0 nobody watches. If the block raises, other ranks may still be in it, and
    nothing is waited for.
    """
    if not timeout:
        yield lambda done, step: None
        return
    watchdog = Watchdog(comm, timeout)
    try:
        with (
            collectives.waits.observe(watchdog.board.waiting),
            files.progress.observe(watchdog.board.alive),
        ):
            yield watchdog.board.beat
            barrier(comm)  # a rank that doesn't come is still seen
    except BaseException:
        watchdog.stop()  # it talks to MPI, which may be about to end
        raise
    watchdog.close()
