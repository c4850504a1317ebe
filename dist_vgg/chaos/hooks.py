"""Where in training each moment of a fault is: the only file of chaos that knows its functions."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dist_vgg import train
from dist_vgg.base import files
from dist_vgg.chaos import faults
from dist_vgg.chaos.injector import FaultInjector, shared_files
from dist_vgg.mpi.collectives import allgather_hosts, allgather_text
from dist_vgg.network.layers import Layer
from dist_vgg.runs import log
from dist_vgg.training import checkpointing, loop, optim
from dist_vgg.training.micro_batches import MicroBatches
from dist_vgg.training.trainer import Trainer


def install(injector: FaultInjector) -> None:
    """Hook an injector into training wherever a moment is."""
    hook_run(injector)
    hook_step(injector)
    hook_exchange(injector)
    hook_checkpoints(injector)


def hook_run(injector: FaultInjector) -> None:
    """Note each start of the ranks in the journal; its moment is the start-up."""

    def start(trainer: Trainer, *rest: Any) -> None:
        injector.trainer = trainer
        injector.know_hosts(allgather_hosts(trainer.comm))
        injector.pids = [int(text) for text in allgather_text(trainer.comm, str(os.getpid()))]
        injector.note("start", rank=trainer.comm.rank, pid=os.getpid(), files=shared_files())
        injector.at(faults.START_UP)

    def begin(trainer: Trainer, *rest: Any) -> None:
        injector.note("begin", rank=trainer.comm.rank, step=trainer.step)

    def stepped(log: Any, record: dict[str, Any]) -> None:
        injector.note_first_step(record["step"])

    hook(train, "begin", start)
    hook(loop, "run", begin)
    hook(log.RunLog, "step", stepped, after=True)


def hook_step(injector: FaultInjector) -> None:
    """The moments of computing: step, forward, backward, update."""
    at = injector.at

    def done(_: MicroBatches, direction: str, layer: Layer) -> None:
        if layer.name == injector.plan.layer:
            at(direction)

    hook(Trainer, "train_step", lambda *_: at("step"))
    hook(Trainer, "_agree", lambda *_: at(faults.AGREED), after=True)
    hook(MicroBatches, "_done", done)
    for rule in (optim.SGD, optim.Adam, optim.AdaGrad):
        # It updates slice after slice: after the first call the others are still to come.
        hook(rule, "update", lambda *_: at("update"), after=True)


def hook_exchange(injector: FaultInjector) -> None:
    """The moments of the sum over ranks, and of what follows the update."""
    from dist_vgg.exchange.route import Route  # it needs MPI, which run_command has started by now

    at = injector.at
    hook(Route, "need", lambda *_: at(faults.ARRIVE))
    hook(Route, "_sum", lambda *_: at("exchange"))
    hook(Route, "reduce_scatter", lambda *_: at(faults.REDUCED), after=True)
    hook(Route, "all_gather", lambda *_: at("share"))
    hook(Route, "all_gather", lambda *_: at(faults.SHARED), after=True)


def hook_checkpoints(injector: FaultInjector) -> None:
    """The moments of saving a checkpoint."""
    at = injector.at

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
    # The folder is flushed once the file in it has its name.
    hook(
        files, "fsync", lambda path: path.name == "checkpoints" and at(faults.RENAMED, saving=True)
    )


def hook(owner: Any, name: str, act: Callable[..., object], after: bool = False) -> None:
    """Have `act` called with a function's arguments before each call of it, or after it."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def hooked(*args: Any, **options: Any) -> Any:
        if not after:
            act(*args)
        result = original(*args, **options)
        if after:
            act(*args)
        return result

    setattr(owner, name, hooked)
