"""The fault of a trial as a rank carries it: it waits for its moment, and strikes once.

In the trial's folder the ranks leave

    struck            when it struck: written once, however often the ranks are started
    journal.jsonl     of each start: its memory, the step where it began, and its first step
"""

import json
import os
import platform
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_vgg.base import signals
from dist_vgg.chaos import faults
from dist_vgg.chaos.plan import Plan

if TYPE_CHECKING:
    from dist_vgg.training.trainer import Trainer

FAULT = "DIST_VGG_FAULT"  # in the environment: the trial's folder and plan, for `faulty`
SUPERVISOR = "DIST_VGG_SUPERVISOR"  # in the environment: the supervisor's process id
STRUCK, JOURNAL, BALLAST = "struck", "journal.jsonl", "ballast"  # files
LASTING = ("sleep", "refuse")  # actions that the process which began them repeats
SLOW = 0.3  # seconds
SIGNAL_WAY = 1.5  # seconds that a signal may take to come back to us


class FaultInjector:
    """One rank's part of a trial. Each action of `Fault.action` is a method."""

    def __init__(self, folder: Path, plan: Plan, breaker: str = "") -> None:
        """`breaker` is the command that strikes hosts."""
        self.folder, self.plan, self.breaker = folder, plan, breaker
        self.victim = plan.rank
        self.trainer: Trainer | None = None
        self.pids: list[int] = []  # of all ranks
        self._has_struck = False  # in this very process
        self._refused = 0
        self._has_stepped = False

    def at(self, moment: str, saving: bool = False) -> None:
        """Strike if this is the plan's rank, moment and step: the step computed, or that saved."""
        plan, trainer = self.plan, self.trainer
        if trainer is None or moment != plan.moment or trainer.comm.rank != self.victim:
            return
        step = trainer.step + (not saving)
        if plan.step not in (0, step):
            return
        # A moment may come once for each micro-batch, and two flips of a bit undo each other.
        again = self._has_struck and plan.action in LASTING
        if again or self._mark(step, trainer.step):
            getattr(self, plan.action)()

    def _mark(self, step: int, done: int) -> bool:
        """Note that it strikes now, after `done` steps; False where it has struck before."""
        try:
            handle = os.open(self.folder / STRUCK, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return False
        where = dict(rank=self.victim, host=platform.node(), step=step, done=done)
        os.write(
            handle, json.dumps(dict(time=time.time(), moment=self.plan.moment, **where)).encode()
        )
        os.close(handle)
        self._has_struck = True
        return True

    def know_hosts(self, hosts: Sequence[str]) -> None:
        """Choose whom to strike by the hosts of all ranks, where the plan leaves that open."""
        if self.plan.fault.victim == faults.AWAY:
            away = [rank for rank, host in enumerate(hosts) if host != hosts[0]]
            self.victim = away[self.plan.rank % len(away)] if away else -1

    def note(self, what: str, **values: Any) -> None:
        """Add a line to the trial's journal."""
        line = json.dumps(dict(what=what, time=time.time(), **values)) + "\n"
        with (self.folder / JOURNAL).open("a") as file:
            file.write(line)

    def note_first_step(self, step: int) -> None:
        """On rank 0, note the first step that this process has recorded."""
        if not self._has_stepped and self.trainer and self.trainer.comm.rank == 0:
            self._has_stepped = True
            self.note("stepped", step=step)

    # The actions

    def kill(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def kill_two(self) -> None:
        os.kill(self.pids[self.plan.other], signal.SIGKILL)
        self.kill()

    def stop(self) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    def off(self) -> None:
        """Have this host switched off; the command hardly returns."""
        self._break("off")

    def cut(self) -> None:
        """Have this host's network cut; it goes on, and nobody hears of it."""
        self._break("cut")

    def _break(self, how: str) -> None:
        subprocess.run([*shlex.split(self.breaker), how, platform.node()])

    def sleep(self) -> None:
        time.sleep(SLOW)

    def signal(self) -> None:
        """Signal the supervisor, or the mpirun that it started, and wait until it reaches us.

        Without the wait a short run could end before the signal comes.
        """
        assert self.trainer
        supervisor = int(os.environ[SUPERVISOR])
        pid = supervisor if self.plan.whom == "supervisor" else child_of(supervisor)
        os.kill(pid, self.plan.fault.signal)
        end = time.monotonic() + SIGNAL_WAY
        while not signals.received and time.monotonic() < end:
            time.sleep(0.01)

    def refuse(self) -> None:
        """Fail as a disk does, for the plan's number of attempts."""
        self._refused += 1
        if self._refused <= self.plan.attempts:
            number = faults.ERRORS[self.plan.kind]
            raise OSError(number, os.strerror(number))

    def free(self) -> None:
        """Free space on the full disk."""
        ballast(self.folder).unlink()

    def flip(self) -> None:
        """Flip a bit of a vector, at a place that this rank has to vouch for."""
        assert self.trainer
        route = self.trainer.route
        if self.plan.fault.vector == "sample":
            shard = route.local_shards[int(self.plan.place * len(route.local_shards))]
            pixels = self.trainer.batches._shards[shard].pixels.reshape(-1)
            pixels[int(self.plan.place * len(pixels))] ^= 1 << self.plan.bit % 8
            return
        route.need(0, route.partition.count)  # what is still to arrive would mend it
        if self.plan.fault.vector == "state":
            vector = next(iter(route.state.values()))
        elif self.plan.fault.vector == "gradient":
            vector = route.total
        else:
            vector = route.params
        places = np.arange(len(vector))
        # On the route "flat" a rank has all parameters for itself; else it vouches for its own.
        alone = self.plan.fault.vector == "params" and route.kind == "flat"
        if not alone:
            places = np.concatenate([places[lo:hi] for lo, hi in route.owned])
        place = places[int(self.plan.place * len(places))]
        vector[place : place + 1].view(np.uint32)[0] ^= np.uint32(1 << self.plan.bit)

    def flip_and_kill(self) -> None:
        self.flip()
        self.kill()


def ballast(trial: Path) -> Path:
    """The file that fills a trial's small disk at first."""
    return trial / "run" / "checkpoints" / BALLAST


def child_of(ancestor: int) -> int:
    """The process that an ancestor of ours has started, and that has started us."""
    pid = os.getpid()
    while True:
        # /proc/PID/stat is "PID (NAME) STATE PARENT ...", and the name may hold anything.
        stat = Path(f"/proc/{pid}/stat").read_text()
        parent = int(stat.rpartition(")")[2].split()[1])
        if parent in (ancestor, 0):
            return pid
        pid = parent


def shared_files() -> list[str]:
    """The files in /dev/shm that this process has mapped: MPI's and our own."""
    maps = Path("/proc/self/maps").read_text()
    return sorted(set(re.findall(r"(/dev/shm/\S+)$", maps, re.MULTILINE)))
