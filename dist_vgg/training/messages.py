"""What a run says: what it is, at its head; how it goes; and what came of it, at its tail."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_vgg.base.command_line import plural
from dist_vgg.base.errors import SUPERVISED, signal_name
from dist_vgg.base.machine import blas_kernels, numba_version
from dist_vgg.data.set_info import SetInfo
from dist_vgg.kernels.protocol import Kernels
from dist_vgg.kernels.sets import NUMPY, on_every_processor, unit
from dist_vgg.mpi.collectives import allgather_hosts
from dist_vgg.runs.provenance import describe_machine
from dist_vgg.training.bottleneck import bottleneck
from dist_vgg.training.records import peak_memory

if TYPE_CHECKING:
    from dist_vgg.training.trainer import Trainer

HOSTS = 16  # that the head of a run names; config.json has all


def describe(trainer: Trainer, run: str, hosts: Sequence[str]) -> dict[str, Any]:
    """What config.json holds: all that a stranger needs to get the same weights again."""
    info = trainer.info
    return dict(
        config=trainer.config.as_dict(),
        kernels_version=trainer.net.ops.VERSION,
        network=trainer.network,
        parameters=trainer.net.parameter_count,
        dataset=dict(
            sha256=info.digest, source=info.source, shards=info.shards, request=info.request
        ),
        train_samples=trainer.batches.samples,
        steps=trainer.steps,
        run=run,
        ranks=trainer.comm.size,
        route=trainer.route.kind,
        hosts=sorted(set(hosts)),
        placement=[
            dict(host=host, ranks=ranks, kernels=blas_kernels())  # the same on all, by now
            for host, ranks in _by_host(hosts).items()
        ],
        pid=os.getpid(),  # of rank 0, which writes it
        **describe_machine(),
    )


def _by_host(hosts: Sequence[str]) -> dict[str, list[int]]:
    """The ranks of each host, from the host of each rank."""
    ranks: dict[str, list[int]] = {}
    for rank, host in enumerate(hosts):
        ranks.setdefault(host, []).append(rank)
    return ranks


def head(trainer: Trainer, folder: Path, hosts: Sequence[str]) -> str:
    """The lines at the head of a run."""
    info, config = trainer.info, trainer.config
    strengths = vars(config.augment).items()
    varied = ", ".join(f"{name} {value:g}" for name, value in strengths if value)
    lr = f"{trainer.full_lr:g}"
    if config.lr_batch:
        lr += f" ({config.base_lr:g} at batch {config.lr_batch})"
    shards = plural(info.shards, "shard")
    steps = f"{plural(trainer.steps, 'step')} in {plural(config.epochs, 'epoch')}"
    by_host = _by_host(hosts)
    named = [f"{host} ({len(ranks)})" for host, ranks in by_host.items()]
    on_hosts = ", ".join([*named[:HOSTS], *([f"{len(named)} hosts in all"] * (len(named) > HOSTS))])
    sharing, cores = len(by_host[hosts[0]]), os.cpu_count() or len(hosts)
    there = f", on {hosts[0]}" if len(by_host) > 1 else ""
    missing = trainer.route.no_standby
    lines = []
    if info.source == "digits":
        lines = [
            "*" * 78,
            f"*** These shards are NOT MNIST but {info.source}, a small stand-in.",
            "*** Accuracies can't be compared. Get MNIST with: python -m data_prep --source mnist",
            "*" * 78,
        ]
    return "\n".join([
        *lines,
        f"data    {config.data}: {info.source}, {trainer.batches.samples:,} training images "
        f"in {shards}, {info.digest[:16]}",
        f"network {config.network.upper()} {info.size}x{info.size}x{info.channels}, "
        f"width {config.width:g}, {trainer.net.parameter_count:,} parameters",
        *([f"init    {trainer.init.summary}"] if trainer.init else []),
        f"step    {shards} x {plural(config.micro_batch, 'image')}, {config.optimizer}, "
        f"lr {lr} {config.schedule}, {steps}",
        *([f"images  drawn anew: {varied}"] if varied else []),
        *(["reading images from the shards as they are needed: they exceed --image-memory"]
          if trainer.batches.on_demand else []),
        f"scores  {scores(info, config.validate)}",
        *([f"cores   {cores} on {hosts[0]}, which {sharing} ranks share: fewer ranks give the same "
           "weights sooner"] if sharing > cores else []),
        f"ranks   {trainer.comm.size} on {on_hosts}, route {trainer.route.kind}, run {folder}",
        f"kernels {kernels_line(trainer.net.ops)}",
        f"stop    kill -USR1 {os.getpid()} (rank 0{there}): the run saves after its step and ends",
        *([f"standby none: {missing}; a crash loses the steps since the last checkpoint"]
          if missing else []),
    ])  # fmt: skip


def scores(info: SetInfo, validate: int) -> str:
    """What is scored while training, or how to have it."""
    if not info.held_out:
        return (
            "none while training: data_prep --held-out N sets training images aside, which "
            "--validate 1 scores"
        )
    images = f"the {info.count(info.held_out):,} held-out images"
    if not validate:
        return f"none while training: --validate 1 scores {images} after each epoch"
    return f"{images} after {'each epoch' if validate == 1 else f'every {validate} epochs'}"


def kernels_line(kernels: Kernels) -> str:
    """What a run computes with: all that its bits depend on."""
    named = f"{kernels.NAME} {kernels.VERSION}"
    if on_every_processor(kernels):
        return f"{named} ({', '.join([f'Numba {numba_version()}', *unit(kernels)])})"
    found = f"NumPy {np.__version__}, {', '.join(blas_kernels())}"
    return found if kernels.NAME == NUMPY else f"{named}, {found}"


def tail(trainer: Trainer, folder: Path, sha256: str, seconds: float) -> str:
    """The short table at the end of a run, or how to go on with one that was stopped.

    Every rank must call it: the table has figures of all ranks.
    """
    largest, of_all = peak_memory(trainer.comm, trainer.route)
    memory = f"{largest:.2f} GiB"
    if trainer.comm.size > 1:
        memory += f" of the largest rank, {of_all:.2f} GiB of all"
    run_again = "python -m dist_vgg.train --resume --out " + shlex.quote(str(folder))
    if trainer.comm.size > 1:
        run_again = f"mpirun -n {trainer.comm.size} {run_again}"
    if trainer.step < trainer.steps:
        done = f"after step {trainer.step} of {trainer.steps}, saved"
        # A supervisor has a command of its own, and hands on every signal as SIGUSR1.
        if SUPERVISED in os.environ and trainer.agreed.stop_signal == signal.SIGUSR1:
            return f"stopped {done}"
        words = f"stopped by {signal_name(trainer.agreed.stop_signal)} {done}"
        return words if SUPERVISED in os.environ else f"{words}; go on with: {run_again}"
    patient = trainer.config.patience and trainer.validation.best.step
    best = {"best": f"{folder / 'best.h5'}, {_best(trainer)}"} if patient else {}
    spent = {
        "time": f"{seconds:.1f} s, {trainer.totals.images / seconds:.1f} images/s",
        **_time_table(trainer.totals.mean_seconds(trainer.comm)),
        "limit": bottleneck(trainer.times.window, allgather_hosts(trainer.comm)),
        "memory": memory,
    }
    steps = f"{trainer.step}"
    if not trainer.totals.images:
        steps, spent = f"{steps}, finished already: nothing was left to do", {}
    rows = {
        "steps": steps,
        **spent,
        "parameters": sha256,
        "weights": str(folder / "weights.h5"),
        **best,
        "evaluate": f"python -m dist_vgg.evaluate {shlex.quote(str(folder))} --data "
        f"{shlex.quote(trainer.config.data)}",
    }
    return "\n".join(f"{name:<11} {value}" for name, value in rows.items())


def resumed(trainer: Trainer, place: str) -> str:
    """Where a run goes on, and from what."""
    epoch, _ = trainer.batches.position(max(0, min(trainer.step, trainer.steps - 1)))
    line = f"resumed at step {trainer.step} of {trainer.steps}, epoch {epoch + 1}, from {place}"
    return f"{line}\n{ended_early(trainer)}" if trainer.ended_early else line


def ended_early(trainer: Trainer) -> str:
    """Why a run has fewer epochs than it was to have."""
    scores = plural(trainer.validation.best.since, "score")
    return f"no better for {scores}: ended early; best.h5 is {_best(trainer)}"


def _best(trainer: Trainer) -> str:
    """Which step did best on the held-out images."""
    best = trainer.validation.best
    return f"of step {best.step}, held-out accuracy {best.accuracy:.2%}"


def _time_table(seconds: Mapping[str, float]) -> dict[str, str]:
    """Where the time of the steps went: seconds and their share of what took any, in three rows."""
    rows: dict[str, list[str]] = {"forward": [], "backward": [], "between": []}
    total = sum(seconds.values()) or 1  # nothing where a run had no step left to do
    for name, value in seconds.items():
        row, _, kind = name.rpartition(" ")
        if value:
            rows[row or "between"].append(f"{kind} {value:.1f} s ({value / total:.1%})")
    return {row: ", ".join(parts) for row, parts in rows.items()}


def epoch(record: Mapping[str, Any], epochs: int, score: Mapping[str, Any] | None = None) -> str:
    """A line for a finished epoch, with the score on held-out images where there is one."""
    line = (
        f"epoch {record['epoch']}/{epochs}: loss {record['loss']:.4f}, training accuracy "
        f"{record['accuracy']:.2%}, "
    )
    if score:
        line += f"held-out loss {score['loss']:.4f}, held-out accuracy {score['accuracy']:.2%}, "
        if "average_accuracy" in score:
            line += f"of the average {score['average_loss']:.4f}, {score['average_accuracy']:.2%}, "
    return line + (
        f"{record['images_per_s']:.1f} images/s, {record['seconds']:.0f} s, "
        f"parameters {record['sha256'][:16]}"
    )
