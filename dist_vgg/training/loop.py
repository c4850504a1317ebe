"""The loop around the step: begin or resume, train, score, save, and say what came of it."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dist_vgg.base.errors import SUPERVISED, Diverged, UserError
from dist_vgg.mpi.collectives import allgather_hosts, allgather_text, barrier, collective_errors
from dist_vgg.network.layers import StepKey
from dist_vgg.recovery.host_memory import remove_stale
from dist_vgg.recovery.resume import MEMORY, Found
from dist_vgg.runs.folder import check_shared, prepare_folder, record_early_end
from dist_vgg.runs.log import RunLog
from dist_vgg.state.checksums import PARAMETERS
from dist_vgg.training import checkpointing, messages
from dist_vgg.training.debug import LayerMonitor
from dist_vgg.training.gradient_check import check_gradients
from dist_vgg.training.optim import AVERAGE
from dist_vgg.training.trainer import Trainer


def begin(trainer: Trainer, folder: Path, run: str, found: Found | None, if_any: bool) -> Path:
    """Take possession of the run's folder, say what the run is, and give it parameters.

    They are those of the state that was `found`, else fresh ones. With `if_any` the folder may
    hold steps in memory that have turned out to be damaged. Returns the folder, which is another
    where its name was ours to choose and has been taken meanwhile.
    """
    comm, beat = trainer.comm, trainer.clock.listener
    if not found:
        trainer.read_init()  # before the run has a folder; one that resumes needs the file no more
        beat("reading the file of --init")
    hosts = allgather_hosts(comm)
    description = messages.describe(trainer, run, hosts)
    named = bool(found or trainer.config.out)
    folder = prepare_folder(folder, comm, bool(found), description, if_any, named)
    print(messages.head(trainer, folder, hosts), flush=True)
    # Not every mpirun hands the supervisor's mark on to other hosts, and all ranks must agree.
    supervised = any(allgather_text(comm, os.environ.get(SUPERVISED, "")))
    if supervised and len(set(hosts)) > 1:
        check_shared(folder, run, hosts, comm, beat)
    beat("preparing the run's folder")
    if found:
        checkpointing.resume(trainer, found.checkpoint, found.sums)
        print(messages.resumed(trainer, found.place), flush=True)
    else:
        trainer.start()
    beat("setting the parameters")
    _take_over(trainer, folder, from_memory=found is not None and found.place == MEMORY)
    return folder


def _take_over(trainer: Trainer, folder: Path, from_memory: bool) -> None:
    """Keep and save the state to begin with; then remove what earlier processes have kept."""
    checkpointing.keep_standby(trainer, folder)
    trainer.saves.step = -1 if from_memory else trainer.step
    if from_memory:
        try:
            checkpointing.save(trainer, folder)
        except UserError as error:
            print(f"warning: {error}; training goes on, and tries again later", flush=True)
    barrier(trainer.comm)  # now every node has its own; what was left before has served
    path, saved = trainer.route.replica.path, trainer.saves.step >= 0
    remove_stale(trainer.comm, folder, path, saved)


def train(trainer: Trainer, folder: Path) -> None:
    """Train to the end, or to a signal; record it in the run's folder and say what came of it."""
    comm, config = trainer.comm, trainer.config
    started = time.perf_counter()
    with collective_errors(comm):
        where = folder if comm.rank == 0 else None
        log = RunLog(where, trainer.step, trainer.steps, config.epochs, config.progress)
    try:
        # What overflows is found, and named, by the checks for finite numbers.
        with np.errstate(all="ignore"):
            run(trainer, folder, log)
            sha256 = write_results(trainer, folder)
        if trainer.step < trainer.steps:
            log.stopped(trainer.step, trainer.agreed.stop_signal)
    finally:
        log.close()
    print(messages.tail(trainer, folder, sha256, time.perf_counter() - started), flush=True)


def run(trainer: Trainer, folder: Path, log: RunLog) -> None:
    """Take steps to the end or to a signal, saving on the way."""
    config, route, monitor = trainer.config, trainer.route, trainer.micro_batches.monitor
    trainer.saves.keep = partial(checkpointing.keep_standby, trainer, folder)
    while trainer.step < trainer.steps and not trainer.agreed.stop_signal:
        number = trainer.step + 1
        epoch_done = number % trainer.batches.steps_per_epoch == 0
        due = number % config.checkpoint_every == 0 if config.checkpoint_every else epoch_done
        follows = not (epoch_done or due or number == trainer.steps or monitor)
        record = trainer.train_step(follows)
        _record_ranks(trainer, log)
        log.step(record)
        if epoch_done:
            record = trainer.finish_epoch()
            scored = config.validate and record["epoch"] % config.validate == 0
            log.epoch(record, "" if scored else messages.epoch(record, config.epochs))
        if monitor and (epoch_done or trainer.step == 1):
            log.say(monitor.table(trainer.net, route.params, route.total))
        if epoch_done and scored:
            _validate(trainer, folder, log, record)
        if not trainer.saves.arriving:
            trainer.saves.keep()
        last = trainer.step == trainer.steps or trainer.agreed.stop_signal
        if not last and (due or trainer.agreed.save):
            try:
                checkpointing.save(trainer, folder)
            except UserError as error:
                log.say(f"warning: {error}; training goes on, and tries again later")
    trainer.times.finish()
    _record_ranks(trainer, log)
    if trainer.saves.step != trainer.step:
        try:
            checkpointing.save(trainer, folder)
        except UserError as error:
            raise UserError(f"{error}; go on with --resume --out {folder}") from error


def _record_ranks(trainer: Trainer, log: RunLog) -> None:
    """Record the figures of each rank in the last step of which rank 0 has them."""
    if trainer.comm.rank == 0 and trainer.times.last:
        log.ranks(trainer.times.last.record())


def _validate(trainer: Trainer, folder: Path, log: RunLog, epoch: Mapping[str, Any]) -> None:
    """Score the held-out images; keep the weights if they are the best that the run has had.

    `epoch` is the record of the epoch that has ended: both are said in one line.
    """
    record, best = trainer.validate()
    log.score(record, messages.epoch(epoch, trainer.config.epochs, record))
    if trainer.config.patience and best is not None:
        try:
            with collective_errors(trainer.comm):
                if trainer.comm.rank == 0:
                    name = AVERAGE if trainer.config.ema else PARAMETERS
                    checkpointing.write_weights(trainer, folder / "best.h5", name, best)
        except UserError as error:
            # The step is not marked as done yet, so it comes again, with the same score.
            raise UserError(f"{error}; go on with --resume --out {folder}") from error
    if trainer.ended_early:
        log.say(messages.ended_early(trainer))


def write_results(trainer: Trainer, folder: Path) -> str:
    """Write the weights of the last step, and their average; SHA-256 of the parameters."""
    route, config = trainer.route, trainer.config
    trainer.clock.listener("coming to write the weights")
    sha256 = route.vectors.digest()
    average = route.vectors.gather(route.state[AVERAGE]) if config.ema else None
    with collective_errors(trainer.comm):
        if trainer.comm.rank == 0:
            if trainer.ended_early:
                record_early_end(folder, trainer.steps)
            # The average first: where weights.h5 lies, the run has left all that it had to.
            if average is not None:
                checkpointing.write_weights(trainer, folder / "average.h5", AVERAGE, average)
            checkpointing.write_weights(trainer, folder / "weights.h5", PARAMETERS, route.params)
    return sha256


def debug_checks(trainer: Trainer) -> None:
    """Check all gradients before the first step; from then on watch every array."""
    micro_batches, step = trainer.micro_batches, trainer.step
    parts = (micro_batches.read((shard,), step) for shard in trainer.route.local_shards)
    samples, x = next((part[:1], x[:1]) for (part,), x in parts if len(part))
    key = StepKey(trainer.config.seed, step, samples.ids)
    print("debug   checking gradients by finite differences in float64 ...", flush=True)
    worst = check_gradients(trainer.net, trainer.route.params, x, samples.labels, key)
    print(
        f"debug   all {len(trainer.net.slots)} gradients agree, to {worst:.1e} at worst", flush=True
    )
    micro_batches.monitor = LayerMonitor()
    trainer.update.before_update = micro_batches.monitor.before_update


@contextmanager
def closing(trainer: Trainer, debugger: bool) -> Iterator[None]:
    """Give the exchange's memory back at the end of the block, however it ends.

    After a mistake that all ranks know of, the memory outlives this process where it has a step
    that no checkpoint has. With `debugger`, an error first gets a prompt.
    """
    try:
        yield
    except Exception as error:
        if debugger:
            print(f"{type(error).__name__}: {error}")
            import pdb

            pdb.post_mortem(error.__traceback__)
        if isinstance(error, UserError):
            unsaved = trainer.saves.step < trainer.step
            trainer.route.close(keep=unsaved and not isinstance(error, Diverged))
        # Other errors are one rank's own: closing would wait for ranks that never come.
        raise
    trainer.route.close()
