"""The loop around the step: begin or resume, train, score, save, and say what came of it."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dist_vgg.base.errors import SUPERVISED, UserError
from dist_vgg.mpi.collectives import (
    allgather_text,
    barrier,
    collective_errors,
)
from dist_vgg.network.layers import StepKey
from dist_vgg.recovery.resume import first_of_host
from dist_vgg.runs.folder import (
    check_shared,
    end_early,
    prepare_folder,
)
from dist_vgg.runs.log import RunLog
from dist_vgg.state.checkpoint import Checkpoint, save_checkpoint
from dist_vgg.state.checksums import PARAMETERS
from dist_vgg.state.replica import remove_stale
from dist_vgg.training import messages
from dist_vgg.training.debug import LayerMonitor
from dist_vgg.training.gradient_check import check_gradients
from dist_vgg.training.optim import AVERAGE
from dist_vgg.training.trainer import Trainer

if TYPE_CHECKING:
    pass


def run(trainer: Trainer, folder: Path, log: RunLog) -> str:
    """Train to the end or to a signal, saving on the way; SHA-256 of the final parameters."""
    config, route = trainer.config, trainer.route
    while trainer.step < trainer.steps and not trainer.stop_signal:
        log.step(trainer.train_step())
        epoch_done = trainer.step % trainer.batches.steps_per_epoch == 0
        if epoch_done:
            record = trainer.finish_epoch()
            log.epoch(record, messages.epoch(record, config.epochs))
        if trainer.watcher and (epoch_done or trainer.step == 1):
            log.say(trainer.watcher.table(trainer.net, route.params, route.total))
        if epoch_done and config.validate and record["epoch"] % config.validate == 0:
            _validate(trainer, folder, log)
        trainer.keep(folder)
        due = trainer.step % config.checkpoint_every == 0 if config.checkpoint_every else epoch_done
        last = trainer.step == trainer.steps or trainer.stop_signal
        if not last and (due or trainer.save_due):
            try:
                _save(trainer, folder)
            except UserError as error:
                log.say(f"warning: {error}; training goes on, and tries again later")
    if trainer.saved != trainer.step:
        try:
            _save(trainer, folder)
        except UserError as error:
            raise UserError(f"{error}; go on with --resume --out {folder}") from error
    trainer.clock.listener("coming to write the weights")
    sha256 = route.digest()
    average = route.gather(route.state[AVERAGE]) if config.ema else None
    with collective_errors(trainer.comm):
        if trainer.comm.rank == 0:
            if trainer.ended_early:
                end_early(folder, trainer.steps)
            # The average first: where weights.h5 lies, the run has left all that it had to.
            if average is not None:
                trainer.write_weights(folder / "average.h5", AVERAGE, average)
            trainer.write_weights(folder / "weights.h5", PARAMETERS, route.params)
    if trainer.step < trainer.steps:
        log.stopped(trainer.step, trainer.stop_signal)
    return sha256


def _validate(trainer: Trainer, folder: Path, log: RunLog) -> None:
    """Score the held-out images; keep the weights if they are the best that the run has had."""
    record, best = trainer.validate()
    log.score(record, messages.score(record, trainer.config.epochs))
    if trainer.config.patience and best is not None:
        try:
            with collective_errors(trainer.comm):
                if trainer.comm.rank == 0:
                    name = AVERAGE if trainer.config.ema else PARAMETERS
                    trainer.write_weights(folder / "best.h5", name, best)
        except UserError as error:
            # The step is not marked as done yet, so it comes again, with the same score.
            raise UserError(f"{error}; go on with --resume --out {folder}") from error
    if trainer.ended_early:
        log.say(messages.ended_early(trainer))


def _save(trainer: Trainer, folder: Path) -> None:
    """Write a checkpoint of what has been checked; UserError on every rank where it can't be."""
    trainer.clock.listener("coming to save a checkpoint")
    trainer.last_save = time.monotonic()
    trainer.route.check()
    barrier(trainer.comm)  # a rank that has found something wrong does not come here
    checkpoint = trainer.checkpoint()
    with collective_errors(trainer.comm):
        if checkpoint:
            keep, check = trainer.config.keep, trainer.check_written
            save_checkpoint(folder / "checkpoints", checkpoint, keep, check)
    trainer.saved = trainer.step


def debug_checks(trainer: Trainer) -> LayerMonitor:
    """Check all gradients before the first step; then watch every array."""
    parts = (trainer.read(shard, trainer.step) for shard in trainer.route.local_shards)
    samples, x = next((part[:1], x[:1]) for part, x in parts if len(part))
    key = StepKey(trainer.config.seed, trainer.step, samples.ids)
    print("debug   checking gradients by finite differences in float64 ...", flush=True)
    worst = check_gradients(trainer.net, trainer.route.params, x, samples.labels, key)
    print(
        f"debug   all {len(trainer.net.slots)} gradients agree, to {worst:.1e} at worst", flush=True
    )
    return LayerMonitor()


def train(
    trainer: Trainer,
    folder: Path,
    state: Checkpoint | None,
    sums: Mapping[str, int],
    place: str,
    anew: bool,
    debug: bool,
) -> None:
    """Begin, or go on with a state that was found in a place; train, and say what came of it.

    With `anew` it may begin where nothing but damaged memory was found.
    """
    from mpi4py import MPI

    comm, config, beat = trainer.comm, trainer.config, trainer.clock.listener
    hosts = allgather_text(comm, MPI.Get_processor_name())
    description = messages.describe(trainer, hosts)
    named = bool(place or config.out)
    folder = prepare_folder(folder, comm, bool(place), description, anew, named)
    print(messages.head(trainer, folder, hosts), flush=True)
    # Not every mpirun hands the supervisor's mark on to other hosts, and all ranks must agree.
    supervised = any(allgather_text(comm, os.environ.get(SUPERVISED, "")))
    if supervised and len(set(hosts)) > 1:
        check_shared(folder, trainer.run, hosts, comm, beat)
    beat("preparing the run's folder")
    if place:
        trainer.resume(state, sums)
        epoch, _ = trainer.batches.position(max(0, min(trainer.step, trainer.steps - 1)))
        at = f"step {trainer.step} of {trainer.steps}, epoch {epoch + 1}"
        print(f"resumed at {at}, from {place}", flush=True)
        if trainer.ended_early:
            print(messages.ended_early(trainer), flush=True)
    else:
        trainer.start()
    beat("setting the parameters")
    trainer.keep(folder)
    trainer.saved = trainer.step if place != "memory" else -1
    if place == "memory":
        try:
            _save(trainer, folder)
        except UserError as error:
            print(f"warning: {error}; training goes on, and tries again later", flush=True)
    barrier(comm)  # now every node has its own; what was left before has served
    acts = first_of_host(comm)
    if acts and (trainer.saved >= 0 or trainer.route.replica.path):
        remove_stale(folder, trainer.route.replica.path)
    if debug:
        trainer.watcher = debug_checks(trainer)
    started = time.perf_counter()
    with collective_errors(comm):
        log = RunLog(
            folder if comm.rank == 0 else None,
            trainer.step,
            trainer.steps,
            config.epochs,
            config.progress,
        )
    try:
        # What overflows is found, and named, by the checks for finite numbers.
        with np.errstate(all="ignore"):
            sha256 = run(trainer, folder, log)
    finally:
        log.close()
    seconds = time.perf_counter() - started
    print(messages.tail(trainer, folder, sha256, seconds), flush=True)
