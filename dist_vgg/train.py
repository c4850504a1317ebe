"""Train VGG16 on many processes at once, with the same result as on one.

python -m data_prep                              once: shards in data/
mpirun -n 8 python -m dist_vgg.train             any number of ranks up to the shards
python -m dist_vgg.train --debug                 one process hosts all shards, and checks
mpirun -n 3 python -m dist_vgg.train --resume    go on with the newest run
"""

import json
import pdb
import platform
import shlex
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_vgg import functional as F
from dist_vgg import machine, optim
from dist_vgg.batches import Batches, load_hosted
from dist_vgg.checkpoint import Checkpoint, Weights, save_checkpoint, save_weights
from dist_vgg.comm import add_up, gather_texts, run_command, share_text, together
from dist_vgg.config import TrainConfig, read_toml, train_parser
from dist_vgg.debug import Watcher, check_gradients, first_nonfinite
from dist_vgg.errors import UserError
from dist_vgg.layers import StepKey
from dist_vgg.runlog import SPANS, Clock, RunLog
from dist_vgg.runs import (
    check_resumed,
    choose_folder,
    describe_machine,
    load_checkpoint,
    prepare_folder,
)
from dist_vgg.shards import Samples, SetInfo, hosted, normalise, open_set
from dist_vgg.vgg import initialise, vgg16

if TYPE_CHECKING:
    from mpi4py import MPI

UPDATE_SLICE = 1 << 16  # numbers updated at a time, so that temporaries stay in cache


@dataclass
class EpochSums:
    """What the steps of an unfinished epoch add up to."""

    loss: float = 0.0
    correct: int = 0
    seen: int = 0
    seconds: float = 0.0


def make_optimizer(config: TrainConfig) -> optim.Optimizer:
    """The update rule of a configuration."""
    if config.optimizer == "adam":
        return optim.Adam(beta1=config.momentum)
    if config.optimizer == "adagrad":
        return optim.AdaGrad()
    return optim.SGD(config.momentum, config.nesterov)


class Trainer:
    """One rank's part of a training run."""

    def __init__(
        self,
        config: TrainConfig,
        info: SetInfo,
        shards: Mapping[int, Samples],
        comm: "MPI.Intracomm",
    ) -> None:
        from dist_vgg.allreduce import Route, choose

        self.config, self.info, self.comm = config, info, comm
        self.network: dict[str, Any] = dict(
            size=info.size, channels=info.channels, classes=info.classes, width=config.width
        )
        self.net = vgg16(**self.network, dropout=config.dropout, conv=config.conv)
        self.kinds = {layer.name: layer.kind for layer in self.net.layers}
        count = self.net.parameter_count
        homes = [hosted(info.shards, comm.size, rank) for rank in range(comm.size)]
        self.route = Route(comm, choose(comm, config.route, count, homes), count, homes)
        counts = np.zeros(info.shards, np.int64)
        for shard, samples in shards.items():
            counts[shard] = len(samples)
        self.batches = Batches(shards, add_up(comm, counts), config.micro_batch, config.seed)
        self.steps = config.epochs * self.batches.steps_per_epoch
        self.step = 0
        self.epoch = EpochSums()
        self.optimizer = make_optimizer(config)
        # Each rank keeps the state of the slices that it updates, laid end to end.
        self.state = {
            name: np.zeros(self.route.owned, np.float32) for name in self.optimizer.state_names
        }
        self.slices = self._slices()
        lr = optim.scaled_lr(config.base_lr, self.batches.global_size(0), config.lr_batch)
        self.lr = optim.schedule(config.schedule, lr, self.steps, config.warmup)
        self.clock = Clock()
        self.spent = dict.fromkeys(SPANS, 0.0)  # seconds of this rank
        self.trained = 0  # images, since this process started
        self.watcher: Watcher | None = None
        self.signal = 0  # what this rank has received, at any moment
        self.stop_signal = 0  # what all ranks have agreed on, in the step just done

    def _slices(self) -> list[tuple[slice, slice, float]]:
        """(place in the vector, place in the state, decay) of all that this rank updates."""
        cuts = sorted({edge for slot in self.net.slots for edge in (slot.lo, slot.hi)})
        weights = [slot for slot in self.net.slots if not slot.is_bias]
        slices, start = [], 0
        for lo, hi in self.route.pieces:
            edges = {lo, hi, *range(lo, hi, UPDATE_SLICE), *(c for c in cuts if lo < c < hi)}
            for a, b in pairwise(sorted(edges)):
                decays = any(slot.lo <= a < slot.hi for slot in weights)
                place = slice(start + a - lo, start + b - lo)
                slices.append((slice(a, b), place, self.config.weight_decay * decays))
            start += hi - lo
        return slices

    def start(self) -> None:
        """Begin with fresh weights."""
        if self.comm.rank == 0:
            initialise(self.net, self.route.params, self.config.seed)
        self.route.broadcast()

    def resume(self, checkpoint: Checkpoint | None) -> None:
        """Begin where a checkpoint ended; rank 0 has it."""
        position = dict(step=0, epoch={})
        if checkpoint:
            position = dict(step=checkpoint.step, epoch=checkpoint.epoch)
            self.route.params[:] = checkpoint.params
        position = json.loads(share_text(self.comm, json.dumps(position)))
        self.step, self.epoch = position["step"], EpochSums(**position["epoch"])
        self.route.broadcast()
        for name, own in self.state.items():
            self.route.scatter(checkpoint.state[name] if checkpoint else None, own)

    def train_step(self) -> dict[str, Any]:
        """One step: batch -> forward -> loss -> backward -> sum -> update -> record."""
        clock, route = self.clock, self.route
        clock.lap()
        if self.watcher:
            self.watcher.step = self.step + 1
        total = self.batches.global_size(self.step)
        losses = np.zeros(self.info.shards)
        correct = np.zeros(self.info.shards)
        for shard in route.mine:
            samples = self.batches.micro_batch(shard, self.step)
            x = normalise(samples.pixels, self.info.mean, self.info.std)
            clock.mark("reading")
            losses[shard], correct[shard] = self._micro_batch(samples, x, total)
            route.add(shard)
            clock.mark("exchange")
        route.wait()
        clock.mark("waiting")
        route.reduce()
        sums = self._agree(losses, correct, route.squares())
        clock.mark("exchange")
        self._update(sums["norm"])
        clock.mark("update")
        route.share()
        clock.mark("exchange")
        return self._record(sums, total)

    def _micro_batch(self, samples: Samples, x: np.ndarray, total: int) -> tuple[float, int]:
        """Forward and backward of one shard's part; its loss summed, and how many are right."""
        grad = self.route.gradient()
        if not len(samples):
            grad[:] = 0
            return 0.0, 0
        self.net.bind(self.route.params, grad)
        key = StepKey(self.config.seed, self.step, samples.ids)
        logits = self.net.forward(x, key, self._watch)
        losses, dlogits = F.cross_entropy(logits, samples.labels, total)
        self.net.backward(dlogits, self.route.ready, self._watch)
        # The first layer has no gradient by its input, and so none to be watched.
        self.clock.mark(f"backward {self.net.layers[0].kind}")
        right = int((logits.argmax(axis=1) == samples.labels).sum())
        return float(losses.sum(dtype=np.float64)), right

    def _watch(self, direction: str, layer: str, array: np.ndarray) -> None:
        """Count a layer's time, and let debug mode see what the layer has made."""
        self.clock.mark(f"{direction} {self.kinds[layer]}")
        if self.watcher:
            self.watcher(direction, layer, array)

    def _agree(
        self, losses: np.ndarray, correct: np.ndarray, squares: np.ndarray
    ) -> dict[str, Any]:
        """The step's sums over all shards, the same on every rank and at any rank count.

        Each number comes from one rank; only then are they added, in one order. Raises
        UserError on every rank, before the update, where a number is not finite.
        """
        parts = [losses, correct, squares, np.zeros(self.comm.size)]
        parts[-1][self.comm.rank] = self.signal
        ends = np.cumsum([len(part) for part in parts])
        everything = np.split(add_up(self.comm, np.concatenate(parts)), ends[:-1])
        losses, correct, squares, signals = everything
        sums = dict(
            loss=float(losses.sum()),
            correct=int(correct.sum()),
            norm=float(squares.sum()) ** 0.5,
        )
        if not np.isfinite([sums["loss"], sums["norm"]]).all():
            self._blame()
        self.stop_signal = int(signals.max())
        return sums

    def _blame(self) -> None:
        """Say on every rank which step, layer and rank brought numbers that are not finite."""
        found = ""
        for shard in self.route.mine:
            # The parameters are still those that the step began with, so it can be repeated.
            samples = self.batches.micro_batch(shard, self.step)
            if len(samples) and not found:
                grad = self.route.gradient()
                self.net.bind(self.route.params, grad)
                x = normalise(samples.pixels, self.info.mean, self.info.std)
                key = StepKey(self.config.seed, self.step, samples.ids)
                found = first_nonfinite(self.net, grad, x, samples.labels, key)
        places = gather_texts(self.comm, found)
        first = next((f"{text} on rank {r}" for r, text in enumerate(places) if text), "the sum")
        raise UserError(
            f"step {self.step + 1}: NaN or Inf first seen in {first}; lower --lr, "
            "lengthen --warmup, or look closer with --debug"
        )

    def _update(self, norm: float) -> None:
        """Take the optimizer's step on the slices that this rank owns."""
        lr = self.lr(self.step)
        clip = self.config.clip
        scale = np.float32(clip / norm) if clip and norm > clip else None
        if self.watcher:
            self.watcher.before_update(self.route.params)
        for where, place, decay in self.slices:
            # The optimizer uses its gradient up, and debug mode still wants to see it.
            total = self.route.total[where]
            g = total.copy() if scale is None else total * scale
            state = tuple(vector[place] for vector in self.state.values())
            self.optimizer.update(self.route.params[where], g, state, lr, self.step + 1, decay)

    def _record(self, sums: dict[str, Any], total: int) -> dict[str, Any]:
        """Count the step as done; what metrics.jsonl has of it."""
        epoch, _ = self.batches.place(self.step)
        spent = self.clock.lap()
        seconds = sum(spent.values())
        record = dict(
            step=self.step + 1,
            epoch=epoch + 1,
            loss=sums["loss"] / total,
            accuracy=sums["correct"] / total,
            lr=self.lr(self.step),
            gradient_norm=sums["norm"],
            images_per_s=total / seconds,
            seconds={name: round(value, 6) for name, value in spent.items()},
        )
        for name, value in spent.items():
            self.spent[name] += value
        self.trained += total
        self.step += 1
        self.epoch.loss += sums["loss"]
        self.epoch.correct += sums["correct"]
        self.epoch.seen += total
        self.epoch.seconds += seconds
        return record

    def finish_epoch(self) -> dict[str, Any]:
        """What metrics.jsonl has of the epoch that the last step ended; begins the next."""
        done, self.epoch = self.epoch, EpochSums()
        return dict(
            step=self.step,
            epoch=self.step // self.batches.steps_per_epoch,
            loss=done.loss / done.seen,
            accuracy=done.correct / done.seen,
            images_per_s=done.seen / done.seconds,
            seconds=done.seconds,
            sha256=self.route.digest(),
        )

    def checkpoint(self) -> Checkpoint | None:
        """Everything needed to go on from here, on rank 0."""
        state = {name: self.route.gather(own) for name, own in self.state.items()}
        if self.comm.rank:
            return None
        return Checkpoint(
            step=self.step,
            config=self.config.as_dict(),
            network=self.network,
            dataset=self.info.digest,
            request=self.info.request,
            shards=self.info.shards,
            epoch=vars(self.epoch),
            params=self.route.params,
            state={name: vector for name, vector in state.items() if vector is not None},
        )

    def mean_seconds(self) -> dict[str, float]:
        """Seconds in each part of the steps, since this process started; the ranks' mean."""
        sums = add_up(self.comm, np.array(list(self.spent.values())))
        return dict(zip(SPANS, (sums / self.comm.size).tolist(), strict=True))

    def memory(self) -> tuple[float, float]:
        """Peak memory in GiB: of the largest rank, and of all, what a node shares once."""
        peak, shared = machine.memory()
        parts = np.zeros((self.comm.size, 2))
        # Of all that a node shares a rank has touched only some.
        parts[self.comm.rank] = peak, peak - shared + self.route.is_leader * self.route.shared_bytes
        peaks, own = add_up(self.comm, parts).T / 2**30
        return float(peaks.max()), float(own.sum())

    def weights(self, sha256: str) -> Weights:
        """The network as it is now, ready to be used."""
        return Weights(
            network=self.network,
            mean=self.info.mean,
            std=self.info.std,
            source=self.info.source,
            dataset=self.info.digest,
            step=self.step,
            sha256=sha256,
            params=self.route.params,
        )


def run(trainer: Trainer, folder: Path, log: RunLog) -> str:
    """Train to the end or to a signal, saving on the way; SHA-256 of the final parameters."""
    config, route = trainer.config, trainer.route
    saved = trainer.step
    while trainer.step < trainer.steps and not trainer.stop_signal:
        log.step(trainer.train_step())
        epoch_done = trainer.step % trainer.batches.steps_per_epoch == 0
        if epoch_done:
            record = trainer.finish_epoch()
            log.epoch(record, _epoch_words(record, config.epochs))
        if trainer.watcher and (epoch_done or trainer.step == 1):
            log.say(trainer.watcher.table(trainer.net, route.params, route.total))
        due = trainer.step % config.checkpoint_every == 0 if config.checkpoint_every else epoch_done
        if due or trainer.stop_signal:
            _save(trainer, folder)
            saved = trainer.step
    if saved != trainer.step:
        _save(trainer, folder)
    sha256 = route.digest()
    with together(trainer.comm):
        if trainer.comm.rank == 0:
            save_weights(folder / "weights.h5", trainer.weights(sha256))
    return sha256


def _save(trainer: Trainer, folder: Path) -> None:
    checkpoint = trainer.checkpoint()
    with together(trainer.comm):
        if checkpoint:
            save_checkpoint(folder / "checkpoints", checkpoint, trainer.config.keep)


def _epoch_words(record: Mapping[str, Any], epochs: int) -> str:
    return (
        f"epoch {record['epoch']}/{epochs}: loss {record['loss']:.4f}, accuracy "
        f"{record['accuracy']:.2%}, {record['images_per_s']:.1f} images/s, "
        f"{record['seconds']:.0f} s, parameters {record['sha256'][:16]}"
    )


def describe(trainer: Trainer, hosts: Sequence[str]) -> dict[str, Any]:
    """What config.json holds: all that a stranger needs to get the same weights again."""
    info = trainer.info
    return dict(
        config=trainer.config.as_dict(),
        network=trainer.network,
        parameters=trainer.net.parameter_count,
        dataset=dict(sha256=info.digest, source=info.source, shards=info.shards),
        train_samples=trainer.batches.samples,
        ranks=trainer.comm.size,
        route=trainer.route.kind,
        hosts=sorted(set(hosts)),
        **describe_machine(),
    )


def catch_signals(trainer: Trainer) -> None:
    """Ctrl-C, SIGTERM or SIGUSR1 ends the run after this step, saved; a second one, at once.

    SIGUSR1 is what Slurm can be told to send before time is up, and what Open MPI's mpirun
    hands on; at Ctrl-C it kills its ranks after a quarter of a second.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        trainer.signal = number
        # Python's own handler lets what is half written be cleaned up.
        again = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, again)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, stop)


def head(trainer: Trainer, folder: Path) -> str:
    """The lines at the head of a run."""
    info, config = trainer.info, trainer.config
    lines = []
    if info.source != "mnist":
        lines = [
            "*" * 78,
            f"*** These shards are NOT MNIST but {info.source}, a small stand-in.",
            "*** Accuracies can't be compared. Get MNIST with: python -m data_prep --source mnist",
            "*" * 78,
        ]
    return "\n".join([
        *lines,
        f"data    {config.data}: {info.source}, {trainer.batches.samples:,} training images "
        f"in {info.shards} shards, {info.digest[:16]}",
        f"network VGG16 {info.size}x{info.size}x{info.channels}, width {config.width:g}, "
        f"{trainer.net.parameter_count:,} parameters",
        f"step    {info.shards} shards x {config.micro_batch} images, {config.optimizer}, "
        f"lr {config.base_lr:g} {config.schedule}, {trainer.steps} steps in {config.epochs} epochs",
        f"ranks   {trainer.comm.size}, route {trainer.route.kind}, run {folder}",
    ])  # fmt: skip


def tail(trainer: Trainer, folder: Path, sha256: str, seconds: float) -> str:
    """The short table at the end of a run, or how to go on with one that was stopped."""
    largest, together = trainer.memory()
    run_again = "python -m dist_vgg.train --resume --out " + shlex.quote(str(folder))
    if trainer.comm.size > 1:
        run_again = f"mpirun -n {trainer.comm.size} {run_again}"
    if trainer.step < trainer.steps:
        name = signal.Signals(trainer.stop_signal).name
        return (
            f"stopped by {name} after step {trainer.step} of {trainer.steps}, saved; "
            f"go on with: {run_again}"
        )
    rows = {
        "steps": f"{trainer.step}",
        "time": f"{seconds:.1f} s, {trainer.trained / seconds:.1f} images/s",
        **_time_table(trainer.mean_seconds()),
        "memory": f"{largest:.2f} GiB of the largest rank, {together:.2f} GiB of all",
        "parameters": sha256,
        "weights": str(folder / "weights.h5"),
        "evaluate": f"python -m dist_vgg.evaluate {shlex.quote(str(folder))} --data "
        f"{shlex.quote(trainer.config.data)}",
    }
    return "\n".join(f"{name:<11} {value}" for name, value in rows.items())


def _time_table(seconds: Mapping[str, float]) -> dict[str, str]:
    """Where the time of the steps went: seconds and their share, in three rows."""
    rows: dict[str, list[str]] = {"forward": [], "backward": [], "between": []}
    total = sum(seconds.values()) or 1  # a run may have had no step left to do
    for name, value in seconds.items():
        row, _, kind = name.rpartition(" ")
        rows[row or "between"].append(f"{kind} {value:.1f} s ({value / total:.1%})")
    return {row: ", ".join(parts) for row, parts in rows.items()}


def debug_checks(trainer: Trainer) -> Watcher:
    """Check all gradients before the first step; then watch every array."""
    parts = (trainer.batches.micro_batch(shard, trainer.step) for shard in trainer.route.mine)
    samples = next(part for part in parts if len(part))[:1]
    x = normalise(samples.pixels, trainer.info.mean, trainer.info.std)
    key = StepKey(trainer.config.seed, trainer.step, samples.ids)
    print("debug   checking gradients by finite differences in float64 ...", flush=True)
    worst = check_gradients(trainer.net, trainer.route.params, x, samples.labels, key)
    print(
        f"debug   all {len(trainer.net.slots)} gradients agree, to {worst:.1e} at worst", flush=True
    )
    return Watcher()


def main(argv: Sequence[str], comm: "MPI.Intracomm") -> int:
    """Run the command; returns its exit status."""
    options = vars(train_parser().parse_args(argv))
    file, resume = options.pop("config", None), options.pop("resume", False)
    debug, debugger = options.pop("debug", False), options.pop("pdb", False)
    if (debug or debugger) and comm.size > 1:
        raise UserError("--debug is one process that hosts all shards: start it without mpirun")
    if debugger and not debug:
        raise UserError("--pdb goes with --debug")
    with together(comm):
        given = {**(read_toml(file) if file else {}), **options}
        TrainConfig(**given)
    folder = choose_folder(given, resume, comm)
    checkpoint, header = load_checkpoint(folder, comm) if resume else (None, {})
    stored = header.get("config", {})
    config = TrainConfig(**{**stored, **given})
    machine.settle(config.blas_threads)
    with together(comm):
        info = open_set(Path(config.data))
        if resume:
            check_resumed(config, info, header)
    shards = load_hosted(Path(config.data), info, "train", config.limit, comm)
    trainer = Trainer(config, info, shards, comm)
    try:
        train(trainer, folder, checkpoint, resume, debug)
    except Exception as error:
        if debugger:
            print(f"{type(error).__name__}: {error}")
            pdb.post_mortem(error.__traceback__)
        if isinstance(error, UserError):
            trainer.route.close()
        # Other errors are one rank's own: closing would wait for ranks that never come.
        raise
    trainer.route.close()
    finished = trainer.step == trainer.steps
    return 0 if finished else 128 + trainer.stop_signal


def train(
    trainer: Trainer, folder: Path, checkpoint: Checkpoint | None, resume: bool, debug: bool
) -> None:
    """Begin or go on, train, and say what came of it."""
    comm, config = trainer.comm, trainer.config
    hosts = gather_texts(comm, platform.node())
    prepare_folder(folder, comm, resume, describe(trainer, hosts))
    print(head(trainer, folder), flush=True)
    if resume:
        trainer.resume(checkpoint)
        epoch = trainer.step // trainer.batches.steps_per_epoch + 1
        print(f"resumed at step {trainer.step} of {trainer.steps}, epoch {epoch}", flush=True)
    else:
        trainer.start()
    if debug:
        trainer.watcher = debug_checks(trainer)
    catch_signals(trainer)
    started = time.perf_counter()
    with together(comm):
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
    print(tail(trainer, folder, sha256, seconds), flush=True)


if __name__ == "__main__":
    run_command("dist_vgg.train", main)
