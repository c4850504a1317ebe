"""dist_vgg.train with one fault in it, which strikes once; what ranks run in a trial.

DIST_VGG_FAULT has the trial's folder and plan. There the ranks leave

    struck            when it struck: made once, however often the ranks are started
    journal.jsonl     each start: its memory, the step where it began, and its first step

Where in the training each moment is, `install` alone knows.
"""

import functools
import json
import os
import platform
import re
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_vgg import train
from dist_vgg.base import files, signals
from dist_vgg.base.errors import UserError
from dist_vgg.chaos import faults
from dist_vgg.chaos.faults import Plan
from dist_vgg.mpi.collectives import allgather_text
from dist_vgg.mpi.command import run_command
from dist_vgg.runs import log
from dist_vgg.training import checkpointing, loop, optim
from dist_vgg.training.micro_batches import MicroBatches
from dist_vgg.training.trainer import Trainer

if TYPE_CHECKING:
    from mpi4py import MPI

FAULT = "DIST_VGG_FAULT"
SUPERVISOR = "DIST_VGG_SUPERVISOR"  # its process id
STRUCK, JOURNAL, BALLAST = "struck", "journal.jsonl", "ballast"
LASTING = ("sleep", "refuse")  # actions that are repeated by the process that began them
SLOW = 0.3  # seconds
SIGNAL_WAY = 1.5  # seconds that a signal may take to come back to us


class Faulty:
    """One rank's part of a trial: it waits for the plan's moment, and strikes."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        self.trainer: Trainer | None = None
        self.pids: list[int] = []
        self._ours = False  # the mark has been made by this very process
        self._refused = 0
        self._begun = False

    def at(self, moment: str, saving: bool = False) -> None:
        """Strike if this is the rank, moment and step: the one computed, or the one saved."""
        plan, trainer = self.plan, self.trainer
        if trainer is None or moment != plan.moment or trainer.comm.rank != plan.rank:
            return
        step = trainer.step + (not saving)
        if plan.step not in (0, step):
            return
        # A moment may come once for each micro-batch, and a bit flipped twice is no fault.
        again = self._ours and plan.action in LASTING
        if again or self._mark(step, trainer.step):
            getattr(self, plan.action)()

    def _mark(self, step: int, done: int) -> bool:
        """Note that it strikes now, so many steps being done; False where it has struck before."""
        try:
            handle = os.open(self.folder / STRUCK, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return False
        where = dict(rank=self.plan.rank, host=platform.node(), step=step, done=done)
        os.write(
            handle, json.dumps(dict(time=time.time(), moment=self.plan.moment, **where)).encode()
        )
        os.close(handle)
        self._ours = True
        return True

    def note(self, what: str, **values: Any) -> None:
        """Add a line to the trial's journal."""
        line = json.dumps(dict(what=what, time=time.time(), **values)) + "\n"
        with (self.folder / JOURNAL).open("a") as file:
            file.write(line)

    # What `Fault.action` names.

    def kill(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def kill_two(self) -> None:
        os.kill(self.pids[self.plan.other], signal.SIGKILL)
        self.kill()

    def stop(self) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    def sleep(self) -> None:
        time.sleep(SLOW)

    def signal(self) -> None:
        """Signal the supervisor, or what it started; see that it comes before the run's end."""
        assert self.trainer
        supervisor = int(os.environ[SUPERVISOR])
        pid = supervisor if self.plan.whom == "supervisor" else child_of(supervisor)
        os.kill(pid, self.plan.fault.signal)
        end = time.monotonic() + SIGNAL_WAY
        while not signals.received and time.monotonic() < end:
            time.sleep(0.01)

    def refuse(self) -> None:
        """Be the disk that fails, for some attempts."""
        self._refused += 1
        if self._refused <= self.plan.attempts:
            number = faults.ERRORS[self.plan.kind]
            raise OSError(number, os.strerror(number))

    def free(self) -> None:
        """Let there be space on the disk."""
        ballast(self.folder).unlink()

    def flip(self) -> None:
        """Flip a bit of a vector, where this rank is the one that would have to say so."""
        assert self.trainer
        route = self.trainer.route
        if self.plan.fault.vector == "sample":
            shard = route.local_shards[int(self.plan.place * len(route.local_shards))]
            pixels = self.trainer.batches._shards[shard].pixels.reshape(-1)
            pixels[int(self.plan.place * len(pixels))] ^= 1 << self.plan.bit % 8
            return
        if self.plan.fault.vector == "state":
            vector = next(iter(route.state.values()))
        elif self.plan.fault.vector == "gradient":
            vector = route.total
        else:
            vector = route.params
        places = np.arange(len(vector))
        # A rank has all parameters for itself on the route "flat", and else what it owns.
        alone = self.plan.fault.vector == "params" and route.kind == "flat"
        if not alone:
            places = np.concatenate([places[lo:hi] for lo, hi in route.owned])
        place = places[int(self.plan.place * len(places))]
        vector[place : place + 1].view(np.uint32)[0] ^= np.uint32(1 << self.plan.bit)

    def flip_and_kill(self) -> None:
        self.flip()
        self.kill()


def ballast(trial: Path) -> Path:
    """What fills a trial's small disk at first."""
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
    """The files in /dev/shm that this process has mapped, of MPI and of our own."""
    maps = Path("/proc/self/maps").read_text()
    return sorted(set(re.findall(r"(/dev/shm/\S+)$", maps, re.MULTILINE)))


def hook(owner: Any, name: str, act: Callable[..., object], after: bool = False) -> None:
    """Have `act` called with a function's arguments before it, or after it."""
    usual = getattr(owner, name)

    @functools.wraps(usual)
    def hooked(*args: Any, **options: Any) -> Any:
        if not after:
            act(*args)
        result = usual(*args, **options)
        if after:
            act(*args)
        return result

    setattr(owner, name, hooked)


def install(faulty: Faulty) -> None:
    """Hook into training wherever a moment is: the only place that knows its functions."""
    from dist_vgg.exchange.route import Route  # it needs MPI, which run_command has started by now

    at, trainer = faulty.at, Trainer

    def start(trainer: Trainer, *rest: Any) -> None:
        faulty.trainer = trainer
        faulty.pids = [int(text) for text in allgather_text(trainer.comm, str(os.getpid()))]
        faulty.note("start", rank=trainer.comm.rank, pid=os.getpid(), files=shared_files())
        at(faults.START_UP)

    def begin(trainer: Trainer, *rest: Any) -> None:
        faulty.note("begin", rank=trainer.comm.rank, step=trainer.step)

    def stepped(log: Any, record: dict[str, Any]) -> None:
        if not faulty._begun and faulty.trainer and faulty.trainer.comm.rank == 0:
            faulty._begun = True
            faulty.note("stepped", step=record["step"])

    hook(train, "begin", start)
    hook(loop, "run", begin)
    hook(log.RunLog, "step", stepped, after=True)

    hook(trainer, "train_step", lambda *_: at("step"))
    hook(
        MicroBatches,
        "_watch",
        lambda _, direction, layer, array: layer == faulty.plan.layer and at(direction),
    )
    hook(Route, "_sum", lambda *_: at("exchange"))
    hook(Route, "reduce_scatter", lambda *_: at(faults.REDUCED), after=True)
    for rule in (optim.SGD, optim.Adam, optim.AdaGrad):
        # It is called for slice after slice; the first is updated, the others not yet.
        hook(rule, "update", lambda *_: at("update"), after=True)
    hook(Route, "all_gather", lambda *_: at("share"))
    hook(Route, "all_gather", lambda *_: at(faults.SHARED), after=True)

    def of_checkpoint(moment: str) -> Callable[..., None]:
        def act(path: Path, *rest: Any) -> None:
            if path.parent.name == "checkpoints" and path.name.startswith((".step-", "step-")):
                at(moment, saving=True)

        return act

    hook(checkpointing, "gather", lambda *_: at(faults.GATHER, saving=True))
    hook(files, "written_beside", of_checkpoint(faults.OPEN))
    amid = of_checkpoint(faults.WRITE)
    hook(files._Sink, "write", lambda sink, data: amid(Path(sink.name)), after=True)
    hook(files, "fsync", of_checkpoint(faults.FLUSH))
    hook(files, "fsync", of_checkpoint(faults.WRITTEN), after=True)
    # The folder is flushed when the file in it has got its name.
    hook(
        files, "fsync", lambda path: path.name == "checkpoints" and at(faults.RENAMED, saving=True)
    )


def main(argv: Sequence[str], comm: "MPI.Intracomm") -> int:
    """Run dist_vgg.train with the fault of DIST_VGG_FAULT."""
    try:
        told = json.loads(os.environ[FAULT])
    except KeyError:
        raise UserError("this is started by: python -m dist_vgg.chaos") from None
    install(Faulty(Path(told["folder"]), Plan(**told["plan"])))
    return train.main(argv, comm)


if __name__ == "__main__":
    run_command("dist_vgg.train", main)
