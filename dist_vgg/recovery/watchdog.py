"""A rank that makes no progress is named, and ends the job: never a silent hang.

Every rank beats on a board in memory that its host's ranks share: its step, what it has done
last, and whether it waits for others. A thread of each rank looks at the board. A rank that is
quiet for too long and does not merely wait for others has stalled; so has the whole job where
all ranks wait, which is what a wrong collective looks like. Hosts tell each other what they see.
"""

import json
import mmap
import os
import struct
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dist_vgg.base import files
from dist_vgg.base.command_line import tell
from dist_vgg.base.errors import RankError
from dist_vgg.mpi import collectives
from dist_vgg.mpi.collectives import allgather_text, barrier
from dist_vgg.mpi.command import LAST_WORDS
from dist_vgg.state import shm

if TYPE_CHECKING:
    from mpi4py import MPI

RECORD = struct.Struct("<iiqqi100s")  # rank, pid, beats, step, whether it waits, what it did last
TAG = 1
LOST = "its host has gone silent"


@dataclass
class Sight:
    """What is known of a rank."""

    rank: int
    host: str
    pid: int
    step: int
    doing: str
    waits: bool
    quiet: float = 0.0  # seconds since its last sign of progress
    state: str = ""  # "stopped" or "dead", where its own host sees that

    @property
    def stalls(self) -> bool:
        """Whether it is not merely waiting for others."""
        return not self.waits or bool(self.state)

    def words(self) -> str:
        """A line's part about it."""
        what = self.state or ("waiting for other ranks" if self.waits else "busy or hanging")
        return (
            f"rank {self.rank} on {self.host} (pid {self.pid}) has made no progress for "
            f"{self.quiet:.0f} s: {what}, in step {self.step} after: {self.doing}"
        )


class Board:
    """Where a host's ranks beat, and see each other."""

    def __init__(self, host: "MPI.Intracomm", rank: int) -> None:
        self._ranks, self._local = host.size, host.rank
        # Shared by name for a moment only: nothing stays behind, however the job ends.
        size = RECORD.size * host.size + 1
        path, handle = _new_file(size) if host.rank == 0 else ("", -1)
        path = allgather_text(host, path)[0]
        with Path(path).open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), size)
        barrier(host)
        if host.rank == 0:
            Path(path).unlink()
            os.close(handle)
        self._rank, self._beats, self._step, self._doing = rank, 0, 0, "start"
        self._waits = False
        self._write()

    def beat(self, doing: str, step: int) -> None:
        """Note progress."""
        self._beats += 1
        self._step, self._doing = step, doing
        self._write()

    def alive(self) -> None:
        """Note progress in what this rank is doing."""
        if threading.current_thread() is threading.main_thread():
            self._beats += 1
            self._write()

    def waiting(self, now: bool) -> None:
        """Note that this rank waits for others, or no longer does."""
        # The thread that sends gradients waits as well, but holds nobody up.
        if threading.current_thread() is threading.main_thread():
            self._waits = now
            self._beats += 1  # the time of others is not this rank's
            self._write()

    def finish(self) -> None:
        """Note that this rank needs no watch any more."""
        self._beats = -1
        self._write()

    def _write(self) -> None:
        fields = (self._rank, os.getpid(), self._beats, self._step, self._waits)
        RECORD.pack_into(
            self._memory, RECORD.size * self._local, *fields, self._doing.encode()[:100]
        )

    def speak(self) -> bool:
        """Whether nobody on this host has said that the job ends; from now on somebody has."""
        first, self._memory[-1] = self._memory[-1] == 0, 1
        return first

    def records(self) -> list[tuple[int, int, int, int, int, bytes]]:
        """What the host's ranks have written: rank, pid, beats, step, waits, doing."""
        return [RECORD.unpack_from(self._memory, RECORD.size * k) for k in range(self._ranks)]


class Watch:
    """The thread that looks at the board."""

    def __init__(self, comm: "MPI.Intracomm", timeout: float) -> None:
        from mpi4py import MPI

        self._comm, self._timeout = comm, timeout
        self._interval = min(1.0, timeout / 10)
        host = _host(comm)
        self._host = MPI.Get_processor_name()
        self.board = Board(host, comm.rank)
        self._hosts = Hosts(comm, host, timeout)
        self._sights: dict[int, tuple[int, Sight]] = {}  # of this host, with their beats
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stall watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the watch. Every rank must come here."""
        self.stop()
        self.board.finish()
        self._hosts.close()

    def stop(self) -> None:
        """Look no more; nobody is waited for."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        last = time.monotonic()
        while not self._end.wait(self._interval):
            now = time.monotonic()
            # A long gap means that this process was itself suspended, as by Ctrl-Z.
            self._look(min(now - last, 2 * self._interval))
            last = now
            elsewhere = self._hosts.turn([sight for _, sight in self._sights.values()])
            self._judge([sight for _, sight in self._sights.values()], elsewhere)

    def _look(self, passed: float) -> None:
        for rank, pid, beats, step, waiting, doing in self.board.records():
            if beats < 0:
                self._sights.pop(rank, None)
                continue
            text = doing.rstrip(b"\0").decode(errors="replace")
            before, known = self._sights.get(rank, (-1, None))
            quiet = known.quiet + passed if known and before == beats else 0.0
            sight = Sight(rank, self._host, pid, step, text, bool(waiting), quiet, _state(pid))
            self._sights[rank] = beats, sight

    def _judge(self, here: list[Sight], elsewhere: list[Sight]) -> None:
        """End the job where this rank is the one to say that somebody has stalled."""
        quiet = [sight for sight in here if sight.quiet >= self._timeout]
        culprits = [sight for sight in quiet if sight.stalls]
        if not culprits:
            everybody = here + elsewhere
            if not everybody or any(sight.quiet < self._timeout for sight in everybody):
                return
            # All wait, each in a collective that the others don't come to, if nobody stands out.
            culprits = [sight for sight in everybody if sight.stalls] or everybody
        named = {sight.rank for sight in culprits}
        # All see the same; the first that can speak does.
        speakers = [sight.rank for sight in here if sight.rank not in named] or sorted(named)
        if self._comm.rank == min(speakers):
            self._stop("; ".join(sight.words() for sight in culprits))

    def _stop(self, words: str) -> None:
        if not self.board.speak():
            return  # the job is ending, and who said so may look dead already
        tell(f"dist_vgg.train: error: {words}")
        if self._comm.size > 1:
            time.sleep(LAST_WORDS)
            self._comm.Abort(RankError.STALLED)
        os._exit(RankError.STALLED)


class Hosts:
    """Tells the other hosts what this one has seen of its ranks, and hears of theirs."""

    def __init__(self, comm: "MPI.Intracomm", host: "MPI.Intracomm", timeout: float) -> None:
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
                sight = vars(Sight(rank, name, pid, 0, "start", False))
                self._news.setdefault(hosts.index(leads), []).append(sight)
        self._heard = dict.fromkeys(self._news, time.monotonic())
        self._sent: dict[int, MPI.Request] = {}

    def turn(self, here: list[Sight]) -> list[Sight]:
        """Tell what is seen here; returns what was last heard of the ranks of other hosts."""
        if self._leaders is None:
            return []
        self._receive()
        text = json.dumps([vars(sight) for sight in here]).encode()
        for leader in range(self._leaders.size):
            # A host that takes nothing is not to fill our memory.
            if leader != self._leaders.rank and self._taken(leader):
                self._sent[leader] = self._leaders.Isend(text, leader, TAG)
        return [self._seen(leader, Sight(**k)) for leader, news in self._news.items() for k in news]

    def _taken(self, leader: int) -> bool:
        """Whether the last message to a leader has left."""
        return leader not in self._sent or bool(self._sent[leader].Test())

    def _seen(self, leader: int, sight: Sight) -> Sight:
        """A sight as it is now: a host that says nothing any more is lost."""
        silence = time.monotonic() - self._heard[leader]
        if silence < self._timeout:
            return sight
        return replace(sight, quiet=silence, state=LOST)

    def _receive(self) -> None:
        from mpi4py import MPI

        assert self._leaders
        status = MPI.Status()
        while self._leaders.Iprobe(MPI.ANY_SOURCE, TAG, status):
            text = bytearray(status.Get_count(MPI.BYTE))
            self._leaders.Recv(text, status.Get_source(), TAG)
            self._news[status.Get_source()] = json.loads(text.decode())
            self._heard[status.Get_source()] = time.monotonic()

    def close(self) -> None:
        """Take what is still on its way, so that MPI can end."""
        if self._leaders is None:
            return
        while not all(map(self._taken, self._sent)):
            self._receive()
            time.sleep(1e-3)
        request = self._leaders.Ibarrier()
        while not request.Test():
            self._receive()  # what another host can't finish before we have taken it
            time.sleep(1e-3)
        self._receive()


def _new_file(size: int) -> tuple[str, int]:
    """A file of that size, zeros, in shared memory, or where it can't be had, on disk.

    Returns its path, and a handle to be closed when all have it open.
    """
    try:
        path = shm.folder() / f"board-{uuid.uuid4().hex[:16]}"
        return str(path), shm.new_file(path, size, [(0, size)])
    except (OSError, AttributeError):  # it is full, say, or this is no Linux
        handle, name = tempfile.mkstemp(prefix="dist_vgg-board-")
        os.write(handle, bytes(size))
        return name, handle


def _host(comm: "MPI.Intracomm") -> "MPI.Intracomm":
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
def watched(comm: "MPI.Intracomm", timeout: float) -> Iterator[Callable[[str, int], object]]:
    """Watch over the ranks during the block, which is to call what it gets with each thing done.

    That takes the thing's name and the step. With a timeout of 0 nobody watches. Where the block
    raises, other ranks may still be in it, and nothing is waited for.
    """
    if not timeout:
        yield lambda done, step: None
        return
    watch = Watch(comm, timeout)
    try:
        with (
            collectives.waits.observe(watch.board.waiting),
            files.progress.observe(watch.board.alive),
        ):
            yield watch.board.beat
            barrier(comm)  # a rank that doesn't come is still seen
    except BaseException:
        watch.stop()  # it talks to MPI, which may be about to end
        raise
    watch.close()
