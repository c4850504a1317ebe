"""The training step, and what a rank needs for it."""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_vgg.base import machine, signals
from dist_vgg.base.errors import Diverged, UserError
from dist_vgg.data.batches import Batches, Prefetcher
from dist_vgg.data.shards import Samples, SetInfo, hosted, normalise
from dist_vgg.kernels import reference as F
from dist_vgg.mpi.collectives import (
    allgather_text,
    allreduce_sum,
    barrier,
    bcast_text,
    collective_errors,
    require_same,
)
from dist_vgg.mpi.command import program_facts
from dist_vgg.network.layers import StepKey
from dist_vgg.network.vgg import initialise, vgg16
from dist_vgg.runs.config import TrainConfig, flag
from dist_vgg.runs.log import SPANS, Clock
from dist_vgg.state.checkpoint import Checkpoint, Weights, save_weights
from dist_vgg.state.checksums import GRADIENT, PARAMETERS, Audit, Cells, parameter_digest
from dist_vgg.training import optim
from dist_vgg.training.debug import LayerMonitor, first_nonfinite
from dist_vgg.training.optim import AVERAGE
from dist_vgg.training.schedules import scaled_lr, schedule
from dist_vgg.training.scoring import score

if TYPE_CHECKING:
    from mpi4py import MPI

# A step beyond either has diverged. Sound runs of the recipes stay 500 times below the first and
# 10,000 times below the second, from their first step on; numbers may grow to Inf only much later.
EXPLODED_LOSS = 1000  # times the loss of guessing, ln(classes)
EXPLODED_NORM = 1e6
UPDATE_SLICE = 1 << 16  # numbers updated at a time, so that temporaries stay in cache


@dataclass
class Best:
    """The best score on held-out images so far."""

    accuracy: float = 0.0
    loss: float = 0.0
    step: int = 0
    since: int = 0  # scores that were no better

    def update(self, accuracy: float, loss: float, step: int) -> bool:
        """Take a score; whether it is better: more images recognised, or as many surer."""
        better = not self.step or (accuracy, -loss) > (self.accuracy, -self.loss)
        if better:
            self.accuracy, self.loss, self.step, self.since = accuracy, loss, step, 0
        else:
            self.since += 1
        return better


@dataclass
class EpochSums:
    """What the steps of an unfinished epoch add up to."""

    loss: float = 0.0
    correct: int = 0
    seen: int = 0
    seconds: float = 0.0


def exploded(loss: float, norm: float, classes: int) -> str:
    """What shows that training has diverged, though its numbers are finite; "" where nothing does.

    `loss` is the mean of some images, `norm` that of the gradient before it is clipped.
    """
    if loss > EXPLODED_LOSS * math.log(classes):
        return f"the loss is {loss:.3g}, more than {EXPLODED_LOSS:,} times that of guessing"
    if norm > EXPLODED_NORM:
        return f"the gradient's norm is {norm:.3g}, more than {EXPLODED_NORM:,.0f}"
    return ""


def make_optimizer(config: TrainConfig) -> optim.Optimizer:
    """The update rule of a configuration."""
    if config.optimizer == "adam":
        return optim.Adam(beta1=config.momentum)
    if config.optimizer == "adagrad":
        return optim.AdaGrad()
    return optim.SGD(config.momentum, config.nesterov)


def _require_same(comm: "MPI.Intracomm", config: TrainConfig, info: SetInfo) -> None:
    """Raise UserError on every rank where ranks would train on other data or in another way."""
    require_same(comm, program_facts(), "install the same version on every host")
    require_same(comm, info.facts(), "give every host the same shards")
    options = {flag(name): value for name, value in config.result_options().items()}
    require_same(comm, options, "start all ranks with the same options")
    require_same(comm, machine.facts(), machine.MEND)


class Trainer:
    """One rank's part of a training run.

    It settles this process for computing: BLAS threads, malloc and time slices, see machine.settle.
    `start` or `resume` it before the first step.
    """

    def __init__(
        self,
        config: TrainConfig,
        info: SetInfo,
        shards: Mapping[int, Samples],
        comm: "MPI.Intracomm",
        run: str = "",
        start: str = "",
    ) -> None:
        """With names of the run and of this start of it, each step outlives the processes."""
        from mpi4py import MPI

        from dist_vgg.exchange.route import Partition, Route, choose, why_no_standby

        machine.settle(config.blas_threads)
        _require_same(comm, config, info)
        self.config, self.info, self.comm = config, info, comm
        self.network: dict[str, Any] = dict(
            size=info.size, channels=info.channels, classes=info.classes, width=config.width
        )
        self.net = vgg16(**self.network, dropout=config.dropout, conv=config.conv)
        self.kinds = {layer.name: layer.kind for layer in self.net.layers}
        # Where each layer begins in the flat vector: at its weights, which come before the bias.
        self.layers = {s.name.partition(".")[0]: s.lo for s in self.net.slots if not s.is_bias}
        count = self.net.parameter_count
        shards_of_rank = [hosted(info.shards, comm.size, rank) for rank in range(comm.size)]
        self.optimizer = make_optimizer(config)
        # What each rank updates of its slices besides the parameters.
        self.state_names = (*self.optimizer.state_names, *([AVERAGE] if config.ema else []))
        self.names = (PARAMETERS, *self.state_names)
        kind = choose(comm, config.route, count, shards_of_rank, len(self.names))
        self.run = run
        self.no_standby = start and why_no_standby(
            comm, kind, count, shards_of_rank, len(self.names)
        )
        name = f"{run}-{start}" if start and not self.no_standby else ""
        cut = Partition(count, comm.size)
        cells = Cells(count, cut.grain, self.layers.values())
        self.route = Route(comm, kind, count, shards_of_rank, self.state_names, name, len(cells))
        self.no_standby = self.no_standby or self.route.no_standby
        where = f"rank {comm.rank} on {MPI.Get_processor_name()}" if config.audit else ""
        if config.audit:
            tables, bucket = self.route.replica.tables, cut.buckets[0][1]
            self.route.audit = Audit(cells, (*self.names, GRADIENT), tables, where, bucket)
        counts = np.zeros(info.shards, np.int64)
        for shard, samples in shards.items():
            counts[shard] = len(samples)
        allreduce_sum(comm, counts)
        self.batches = Batches(shards, counts, config.micro_batch, config.seed, where)
        self.read = Prefetcher(self._read)
        self.planned = config.epochs * self.batches.steps_per_epoch
        self.steps = self.planned  # fewer, where scores get no better
        self.step = 0
        self.begun = False  # by `start` or `resume`: until then the parameters are unset memory
        self.epoch = EpochSums()
        self.best = Best()
        self.held_out: Mapping[int, Samples] = {}  # images that --validate scores
        self.blocks = self._blocks()
        batch = self.batches.global_size(0)
        self.full_lr = scaled_lr(config.base_lr, batch, config.lr_batch)  # after warm-up
        warmup = config.warmup
        if config.warmup_epochs:
            warmup = max(1, round(config.warmup_epochs * self.batches.steps_per_epoch))
        self.lr = schedule(config.schedule, self.full_lr, self.steps, warmup)
        self.clock = Clock()
        self.spent = dict.fromkeys(SPANS, 0.0)  # seconds of this rank
        self.trained = 0  # images, since this process started
        self.watcher: LayerMonitor | None = None
        self.stop_signal = 0  # what all ranks have agreed on, in the step just done
        self.save_due = False  # likewise: --checkpoint-minutes are over
        self.last_save = time.monotonic()  # that it was tried
        self.saved = 0  # the last step that is on disk; before the first one nothing is lost

    def _blocks(self) -> list[tuple[int, int, list[tuple[slice, float]]]]:
        """All that this rank updates, a block at a time: (lo, hi, [(slice, decay), ...])."""
        cuts = sorted({edge for slot in self.net.slots for edge in (slot.lo, slot.hi)})
        weights = [slot for slot in self.net.slots if not slot.is_bias]
        size = max(UPDATE_SLICE, self.route.partition.grain)  # both are powers of 2
        blocks = []
        for start, end in self.route.owned:
            for lo in range(start, end, size):
                hi = min(lo + size, end)
                parts = []
                for a, b in pairwise(sorted({lo, hi, *(c for c in cuts if lo < c < hi)})):
                    decays = any(slot.lo <= a < slot.hi for slot in weights)
                    parts.append((slice(a, b), self.config.weight_decay * decays))
                blocks.append((lo, hi, parts))
        return blocks

    def start(self) -> None:
        """Begin with fresh weights."""
        if self.comm.rank == 0:
            initialise(self.net, self.route.params, self.config.seed)
        self.route.broadcast()
        if self.config.ema:
            for lo, hi in self.route.owned:
                self.route.state[AVERAGE][lo:hi] = self.route.params[lo:hi]
        self.route.audit_all()
        self.begun = True

    def resume(self, checkpoint: Checkpoint | None, sums: Mapping[str, int] | None = None) -> None:
        """Begin where a checkpoint ended; rank 0 has it.

        `sums` are its vectors' checksums, by name, from the moment when it was verified.
        """
        position = dict(step=0, epoch={}, best={})
        with collective_errors(self.comm):
            if checkpoint and (
                len(checkpoint.params) != self.net.parameter_count
                or set(checkpoint.state) != set(self.state_names)
                or set(checkpoint.epoch) != set(vars(self.epoch))
                or set(checkpoint.best) != set(vars(self.best))
            ):
                raise UserError(
                    "the checkpoint does not belong to the network and optimizer that it names; "
                    "remove it, or start a new run without --resume"
                )
        if checkpoint:
            position = {name: getattr(checkpoint, name) for name in position}
            self.route.params[:] = checkpoint.params
        position = json.loads(bcast_text(self.comm, json.dumps(position)))
        self.step, self.epoch = position["step"], EpochSums(**position["epoch"])
        self.best = Best(**position["best"])
        self._end_early()
        self.route.broadcast()
        for name, vector in self.route.state.items():
            self.route.scatter(checkpoint.state[name] if checkpoint else None, vector)
        self.route.audit_all()
        if self.route.audit and sums:
            for name, sum_ in sums.items():
                self.route.audit.check_whole(name, sum_)
        barrier(self.comm)  # nobody marks it as whole before rank 0 has found that it is
        self.begun = True

    def _must_have_begun(self) -> None:
        if not self.begun:
            raise RuntimeError("the trainer has no parameters yet: call start() or resume() first")

    def train_step(self) -> dict[str, Any]:
        """One step: batch -> forward -> loss -> backward -> sum -> update -> record."""
        self._must_have_begun()
        clock, route = self.clock, self.route
        clock.lap()
        if self.watcher:
            self.watcher.step = self.step + 1
        if route.audit:
            route.audit.step = self.step + 1
        total = self.batches.global_size(self.step)
        losses = np.zeros(self.info.shards)
        correct = np.zeros(self.info.shards)
        for shard in route.local_shards:
            samples, x = self.read(shard, self.step, self._after(shard))
            clock.mark("reading")
            losses[shard], correct[shard] = self._micro_batch(samples, x, total)
            route.add(shard)
            clock.mark("exchange")
        route.wait()
        clock.mark("waiting")
        route.reduce_scatter()
        clock.mark("exchange")
        route.check_copies()
        clock.mark("audit")
        sums = self._agree(losses, correct, route.squares())
        clock.mark("exchange")
        self._update(sums["norm"])
        clock.mark("update")
        route.all_gather()
        clock.mark("exchange")
        return self._record(sums, total)

    def _read(self, shard: int, step: int) -> tuple[Samples, np.ndarray]:
        """A micro-batch, and its images as the network takes them."""
        samples, augment = self.batches.micro_batch(shard, step), self.config.augment
        pixels = samples.pixels
        if augment:
            epoch, _ = self.batches.position(step)
            pixels = augment.draw(pixels, samples.ids, self.config.seed, epoch)
        return samples, normalise(pixels, self.info.mean, self.info.std)

    def _after(self, shard: int) -> tuple[int, int] | None:
        """The shard and step of the micro-batch that follows one of this step."""
        mine = self.route.local_shards
        if shard != mine[-1]:
            return mine[mine.index(shard) + 1], self.step
        return (mine[0], self.step + 1) if self.step + 1 < self.steps else None

    def _micro_batch(self, samples: Samples, x: np.ndarray, total: int) -> tuple[float, int]:
        """Forward and backward of one shard's part; its loss summed, and how many are right."""
        grad = self.route.gradient()
        if not len(samples):
            grad[:] = 0
            return 0.0, 0
        self.net.bind(self.route.params, grad)
        key = StepKey(self.config.seed, self.step, samples.ids)
        logits = self.net.forward(x, key, self._watch)
        smoothing = self.config.label_smoothing
        losses, dlogits = F.cross_entropy(logits, samples.labels, total, smoothing)
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
        Diverged on every rank, before the update, where a number is not finite or has exploded.
        """
        parts = [losses, correct, squares, np.zeros(self.comm.size), np.zeros(1)]
        parts[-2][self.comm.rank] = signals.received[0] if signals.received else 0
        parts[-1][:] = self.comm.rank == 0 and self._minutes_over()
        ends = np.cumsum([len(part) for part in parts])
        everything = np.split(allreduce_sum(self.comm, np.concatenate(parts)), ends[:-1])
        losses, correct, squares, stops, minutes_over = everything
        sums = dict(
            loss=float(losses.sum()),
            correct=int(correct.sum()),
            norm=float(squares.sum()) ** 0.5,
        )
        if not np.isfinite([sums["loss"], sums["norm"]]).all():
            self._check_all()
            self._blame()
        self._refuse_exploded(sums["loss"] / self.batches.global_size(self.step), sums["norm"])
        self.stop_signal = int(stops.max())
        self.save_due = bool(minutes_over)
        return sums

    def _refuse_exploded(self, loss: float, norm: float) -> None:
        """Raise Diverged on every rank where a step's mean loss or gradient norm has exploded."""
        found = exploded(loss, norm, self.info.classes)
        if found:
            self._check_all()
            raise Diverged(
                f"step {self.step + 1}: training has diverged: {found}; lower --lr, or lengthen "
                "--warmup"
            )

    def _minutes_over(self) -> bool:
        """Whether the last try to write a checkpoint was --checkpoint-minutes ago."""
        wanted = self.config.checkpoint_minutes
        return wanted > 0 and time.monotonic() - self.last_save >= 60 * wanted

    def _check_all(self) -> None:
        """Raise RankError if it was a flipped bit that has made the numbers what they are."""
        route = self.route
        route.check()
        if route.audit:
            for piece in route.owned:
                route.audit.check(GRADIENT, route.total, *piece)
        barrier(self.comm)

    def _blame(self) -> None:
        """Say on every rank which step, layer and rank brought numbers that are not finite."""
        found = ""
        for shard in self.route.local_shards:
            # The parameters are still those that the step began with, so it can be repeated.
            samples, x = self.read(shard, self.step)
            if len(samples) and not found:
                grad = self.route.gradient()
                self.net.bind(self.route.params, grad)
                key = StepKey(self.config.seed, self.step, samples.ids)
                found = first_nonfinite(self.net, grad, x, samples.labels, key)
        places = allgather_text(self.comm, found)
        first = next((f"{text} on rank {r}" for r, text in enumerate(places) if text), "the sum")
        raise Diverged(
            f"step {self.step + 1}: NaN or Inf first seen in {first}; lower --lr, "
            "lengthen --warmup, or look closer with --debug"
        )

    def _update(self, norm: float) -> None:
        """Take the optimizer's step on the slices that this rank owns."""
        lr = self.lr(self.step)
        clip = self.config.clip
        scale = np.float32(clip / norm) if clip and norm > clip else None
        route, audit = self.route, self.route.audit
        if self.watcher:
            self.watcher.before_update(route.params)
        before = (route.params, *route.state.values())
        route.replica.swap()
        after = dict(zip(self.names, (route.params, *route.state.values()), strict=True))
        for lo, hi, parts in self.blocks:
            for vector, (name, new) in zip(before, after.items(), strict=True):
                if new is not vector:
                    new[lo:hi] = vector[lo:hi]
                if audit:
                    audit.check(name, new, lo, hi)
            if audit:
                audit.check(GRADIENT, route.total, lo, hi)
            for where, decay in parts:
                # The optimizer uses its gradient up, and debug mode still wants to see it.
                g = route.total[where].copy() if scale is None else route.total[where] * scale
                w, *state = (vector[where] for vector in after.values())
                average = state.pop() if self.config.ema else None
                self.optimizer.update(w, g, tuple(state), lr, self.step + 1, decay)
                if average is not None:
                    optim.update_average(average, w, self.config.ema, self.step + 1)
            if audit:
                for name, new in after.items():
                    audit.note(name, new, lo, hi)

    def _record(self, sums: dict[str, Any], total: int) -> dict[str, Any]:
        """Count the step as done; what metrics.jsonl has of it."""
        epoch, _ = self.batches.position(self.step)
        spent = self.clock.lap()
        seconds = sum(spent.values())
        record = dict(
            step=self.step + 1,
            epoch=epoch + 1,
            loss=sums["loss"] / total,
            accuracy=sums["correct"] / total,
            lr=self.lr(self.step),
            gradient_norm=sums["norm"],
            **self._digests(),
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

    def _digests(self) -> dict[str, Any]:
        """Checksums of the step, by which `replay` sees whether, and where, another differs."""
        audit = self.route.audit
        if audit is None or self.comm.rank:
            return {}
        layers = {name: audit.by_layer(name, self.layers) for name in (GRADIENT, PARAMETERS)}
        return dict(digest=audit.digest(PARAMETERS), layers=layers)

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

    def validate(self) -> tuple[dict[str, Any], np.ndarray | None]:
        """What metrics.jsonl has of a score on the held-out images; the parameters, if the best.

        The moving average is scored too, where there is one, and then decides which is best.
        """
        self._must_have_begun()
        info, route = self.info, self.route
        models = {"": route.params}
        if self.config.ema:
            models["average_"] = route.whole(route.state[AVERAGE])
        record: dict[str, Any] = dict(step=self.step, epoch=self.batches.position(self.step)[0])
        for prefix, params in models.items():
            self.net.bind(params, params)  # there is no backward to write the second
            found = score(
                self.net, self.held_out, info.mean, info.std, info.classes, self.comm,
                done=lambda count: self.clock.listener("scoring held-out images"),
            )  # fmt: skip
            if not np.isfinite(found.loss) or exploded(found.loss, 0, info.classes):
                raise Diverged(
                    f"step {self.step}: the loss of the held-out images is {found.loss:.3g}; lower "
                    "--lr, lengthen --warmup, or look closer with --debug"
                )
            record |= {f"{prefix}accuracy": found.accuracy, f"{prefix}loss": found.loss}
        # The last of them: the average, where there is one.
        better = self.best.update(found.accuracy, found.loss, self.step)
        self._end_early()
        return record, params if better else None

    @property
    def ended_early(self) -> bool:
        """Whether this step is the last because scores have not become better."""
        return self.step == self.steps < self.planned

    def _end_early(self) -> None:
        """Let this step be the last where scores have not become better for long enough."""
        if self.config.patience and self.best.since >= self.config.patience:
            self.steps = self.step

    def header(self) -> dict[str, Any]:
        """All of a checkpoint but its vectors."""
        return dict(
            step=self.step,
            config=self.config.as_dict(),
            network=self.network,
            dataset=self.info.digest,
            request=self.info.request,
            shards=self.info.shards,
            epoch=vars(self.epoch),
            best=vars(self.best),
        )

    def checkpoint(self) -> Checkpoint | None:
        """Everything needed to go on from here, on rank 0."""
        self._must_have_begun()
        state = {name: self.route.gather(vector) for name, vector in self.route.state.items()}
        if self.comm.rank:
            return None
        whole = {name: vector for name, vector in state.items() if vector is not None}
        return Checkpoint(**self.header(), params=self.route.params, state=whole)

    def check_written(self, name: str, vector: Any) -> None:
        """Raise RankError where a vector in a file is not what the last step has left."""
        audit = self.route.audit
        if audit:
            for lo, hi in self.route.partition.buckets:
                audit.check(PARAMETERS if name == "params" else name, vector, lo, hi)

    def keep(self, folder: Path) -> None:
        """Mark the step as whole in the memory that outlives this process."""
        route = self.route
        if route.is_leader and route.audit:
            where = dict(folder=str(folder.resolve()), pieces=route.owned_by_node())
            route.replica.commit({**self.header(), **where}, route.audit.cells)
        self.clock.mark("audit")

    def mean_seconds(self) -> dict[str, float]:
        """Seconds in each part of the steps, since this process started; the ranks' mean."""
        sums = allreduce_sum(self.comm, np.array(list(self.spent.values())))
        return dict(zip(SPANS, (sums / self.comm.size).tolist(), strict=True))

    def memory(self) -> tuple[float, float]:
        """Peak memory in GiB: of the largest rank, and of all, what a node shares once."""
        peak, shared = machine.memory()
        parts = np.zeros((self.comm.size, 2))
        # Of all that a node shares a rank has touched only some; MPI shares something, too.
        of_node = self.route.is_leader * max(shared, self.route.shared_bytes)
        parts[self.comm.rank] = peak, peak - shared + of_node
        peaks, own = allreduce_sum(self.comm, parts).T / 2**30
        return float(peaks.max()), float(own.sum())

    def write_weights(self, path: Path, name: str, params: np.ndarray) -> None:
        """Write one of this step's vectors, by its name, as a network ready to be used."""
        content = Weights(
            network=self.network,
            mean=self.info.mean,
            std=self.info.std,
            source=self.info.source,
            dataset=self.info.digest,
            step=self.step,
            sha256=parameter_digest(params),
            params=params,
        )
        save_weights(path, content, lambda _, vector: self.check_written(name, vector))
