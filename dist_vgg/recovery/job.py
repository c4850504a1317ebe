"""The processes of a job: mpirun, the ranks that it starts on this machine, and their children."""

import ctypes
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dist_vgg.base.errors import SUPERVISED, UserError
from dist_vgg.state import shm

GRACE = 30  # seconds that killed processes may take to be gone
MPI_MEMORY = ("mpich_sh*", "ucx_shm_posix*", "sm_segment*")  # names of MPI's shared memory
YOUNG = 1  # seconds, of such a name
RANK = re.compile(rb"(?:PMI_RANK|OMPI_COMM_WORLD_RANK)=(\d+)")
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # of <linux/prctl.h>
LIBC = ctypes.CDLL(None)


@dataclass(frozen=True)
class Process:
    """A process of a job, as /proc describes it."""

    pid: int
    parent: int
    state: str  # R, S ..., T if stopped
    rank: str  # "rank 3", or "a rank" where its number is unknown; empty if it is no rank


class Job:
    """All processes of a run on this machine; those that run the training module are its ranks."""

    def __init__(self, folder: Path, module: str) -> None:
        # Slurm would have a start wait for what a lost node still holds of the last one.
        self.environ = {"SLURM_OVERLAP": "1", **os.environ, SUPERVISED: str(folder)}
        # A process keeps it whatever becomes of its parent, its session and its process group.
        self._mark = os.fsencode(f"{SUPERVISED}={folder}")
        self._module = [b"-m", module.encode()]
        self.names: dict[int, str] = {}  # of all ranks seen, by pid
        self.ended: list[str] = []  # names of the ranks that have ended, in that order
        self._ends = select.epoll()  # reports the ends of ranks in their order
        self._pidfds: dict[int, int] = {}  # a rank's pid by the descriptor that reports its end
        self._created = time.time()

    def start(self, command: Sequence[str], ranks: int) -> None:
        """Start mpirun in a session of its own, since Ctrl-C reaches all of the terminal's."""
        for descriptor in list(self._pidfds):  # of what an earlier supervisor's job left
            self._close_pidfd(descriptor)
        self.names, self.ended, self.size = {}, [], ranks
        try:
            self.mpirun = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=self.environ,
                preexec_fn=_stop_with_parent(os.getpid()),
            )
        except OSError as error:
            raise UserError(f"can't start {command[0]}: {error.strerror}") from error

    def processes(self) -> dict[int, Process]:
        """Every process of the job, by pid. Takes note of new ranks."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, ValueError):  # it ended meanwhile, or is someone else's
                if process := self._read(path):
                    found[process.pid] = process
        ranks = {pid for pid, process in found.items() if process.rank}
        for pid in ranks - self.names.keys():
            # A rank's fork looks like the rank until it becomes another program.
            if found[pid].parent not in ranks:
                self.names[pid] = found[pid].rank
                self._watch_end(pid)
        return found

    def _read(self, path: Path) -> Process | None:
        """The process with this folder in /proc; None if the job does not own it."""
        pid, environ = int(path.name), (path / "environ").read_bytes().split(b"\0")
        if self._mark not in environ or pid == os.getpid():
            return None
        # "pid (name) state ppid": the name may hold spaces and brackets.
        state, parent = (path / "stat").read_text().rpartition(")")[2].split()[:2]
        rank = ""
        if (path / "cmdline").read_bytes().split(b"\0")[1:3] == self._module:
            numbers = [match[1].decode() for match in map(RANK.fullmatch, environ) if match]
            rank = f"rank {numbers[0]}" if numbers else "a rank"
        return Process(pid, int(parent), state, rank)

    def _watch_end(self, pid: int) -> None:
        with suppress(OSError, AttributeError):  # it ended, or this Python is too old
            self._pidfds[descriptor := os.pidfd_open(pid)] = pid
            self._ends.register(descriptor, select.EPOLLIN)

    def _close_pidfd(self, descriptor: int) -> int:
        """Watch for the end of a rank no longer; returns its pid."""
        self._ends.unregister(descriptor)
        os.close(descriptor)
        return self._pidfds.pop(descriptor)

    def note_ends(self, seconds: float) -> None:
        """Wait at most this long for ranks to end, and note the names of those that do."""
        for descriptor, _ in self._ends.poll(seconds):
            self.ended.append(self.names[self._close_pidfd(descriptor)])

    def describe_loss(self, ending: str) -> str:
        """Say that a rank was lost, and which one ended first, if every rank was seen.

        Usually the first to end is the lost one: MPI kills the others when it notices.
        """
        seen = self.ended and len(self.names) == self.size
        return f"lost a rank ({f'{self.ended[0]} ended first; ' if seen else ''}{ending})"

    def end(self) -> int:
        """Kill whatever is left of the job; returns mpirun's status as the shell reports it."""
        if self.mpirun.poll() is None:
            self.mpirun.kill()
        status = self.mpirun.wait()
        self.kill_remaining()
        with suppress(ChildProcessError):  # orphans have become our children
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        for descriptor in list(self._pidfds):
            self._close_pidfd(descriptor)
        return status if status >= 0 else 128 - status

    def kill_remaining(self) -> None:
        """Kill every process of the job, stopped or not, and wait until all are gone."""
        end = time.monotonic() + GRACE
        while remaining := self.processes():
            for pid in remaining:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > end:
                pids = ", ".join(map(str, remaining))
                raise UserError(f"can't kill the last start's processes: {pids}")
            time.sleep(0.02)
        unlink_unused_memory(self._created)


def adopt_orphans() -> None:
    """Have processes that lose their parent become children of this one, which can reap them."""
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1)


def _stop_with_parent(parent: int) -> Callable[[], None]:
    """What a child calls before it starts: it gets SIGUSR1, save and stop, if its parent dies."""

    def call() -> None:
        LIBC.prctl(PR_SET_PDEATHSIG, int(signal.SIGUSR1))
        if os.getppid() != parent:
            os._exit(1)

    return call


def unlink_unused_memory(since: float) -> None:
    """Remove the shared memory of MPI that nobody uses: of ranks killed while MPI started.

    `since` is in seconds since 1970; what is older is another's.
    """
    candidates = []
    for path in (path for pattern in MPI_MEMORY for path in shm.SHM.glob(pattern)):
        with suppress(OSError):
            status = path.stat()
            # A younger one may be of another job, whose ranks have not mapped it yet.
            if status.st_uid == os.geteuid() and since <= status.st_mtime < time.time() - YOUNG:
                candidates.append(path)
    used = set()
    for maps in Path("/proc").glob("[0-9]*/maps") if candidates else ():
        with suppress(OSError):
            text = maps.read_text(errors="replace")
            used |= {path for path in candidates if str(path) in text}
    for path in candidates:
        if path not in used:
            path.unlink(missing_ok=True)


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until the condition holds, but at most this long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not condition():
        time.sleep(0.05)
