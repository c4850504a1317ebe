"""The training step, and what a rank needs for it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_vgg.base import machine, signals
from dist_vgg.base.errors import Diverged
from dist_vgg.data.batches import Batches
from dist_vgg.data.samples import Samples
from dist_vgg.data.set_info import SetInfo
from dist_vgg.mpi.collectives import barrier
from dist_vgg.mpi.host import where_is
from dist_vgg.network.vgg import vgg
from dist_vgg.runs.clock import Clock
from dist_vgg.runs.config import TrainConfig
from dist_vgg.training.agree import Agreement, agree
from dist_vgg.training.divergence import exploded
from dist_vgg.training.micro_batches import MicroBatches, following
from dist_vgg.training.optim import AVERAGE
from dist_vgg.training.pretrained import Init, fill, read_init
from dist_vgg.training.rank_times import RankClock
from dist_vgg.training.records import EpochSums, Totals, digests, speed
from dist_vgg.training.saves import Saves
from dist_vgg.training.setup import (
    learning_rate,
    make_exchange,
    network_of,
    require_same_training,
    settle_kernels,
    shard_sizes,
)
from dist_vgg.training.update import Update
from dist_vgg.training.validation import Validation

if TYPE_CHECKING:
    from mpi4py import MPI

    from dist_vgg.exchange.protocol import MakeExchange


class Trainer:
    """One rank's part of a training run.

    Creating one sets BLAS threads, malloc and time slices of this process, see machine.settle.
    Before the first step call `start` for fresh parameters, or checkpointing.resume.
    """

    def __init__(
        self,
        config: TrainConfig,
        info: SetInfo,
        shards: Mapping[int, Samples],
        comm: "MPI.Intracomm",
        standby: str = "",
        exchange: "MakeExchange | None" = None,
        held_out: Mapping[int, Samples] | None = None,
    ) -> None:
        """`shards` are those that this rank hosts, `held_out` likewise those to validate on.

        With the name of a `standby`, shared memory keeps each step beyond the life of the
        processes. `exchange` replaces the route that the options name by another exchange.
        """
        machine.settle(config.blas_threads)
        config, kernels = settle_kernels(comm, config)
        require_same_training(comm, config, info, kernels)
        self.config, self.info, self.comm = config, info, comm
        self.network = network_of(config, info)
        net = self.net = vgg(**self.network, dropout=config.dropout, kernels=kernels)
        self.update = Update(config, net.slots, kernels.ARITHMETIC)
        self.route = make_exchange(
            comm, config, net, info.shards, self.update.state_names, standby, exchange
        )
        sizes, where = shard_sizes(comm, info, shards), where_is(comm) if config.audit else ""
        self.batches = Batches(shards, sizes, config.micro_batch, config.seed, where)
        self.clock = Clock()
        self.micro_batches = MicroBatches(net, self.batches, config, info, self.clock)
        self.full_lr, self.lr = learning_rate(config, self.batches, kernels.ARITHMETIC)
        self.validation = Validation(info, held_out or {}, config.patience)
        self.step = 0  # so many are done
        self.steps = self.planned  # fewer, where scores get no better
        self.init: Init | None = None  # what --init has, from `read_init` on to `start`
        self.begun = False  # until then the parameters are unset memory
        self.epoch = EpochSums()
        self.totals = Totals()
        self.times = RankClock(comm)
        self.agreed = Agreement()  # in the step just done
        self.saves = Saves(config.checkpoint_minutes)

    @property
    def planned(self) -> int:
        """The steps of all epochs."""
        return self.config.epochs * self.batches.steps_per_epoch

    @property
    def ended_early(self) -> bool:
        """Whether this step is the last because scores have stopped improving."""
        return self.step == self.steps < self.planned

    def start(self) -> None:
        """Begin with fresh weights, or with those of --init where they fit."""
        route, init = self.route, self.read_init()
        fill(route.vectors, route.params, self.net, self.config.seed, init)
        self.init = None  # it may be as large as the parameters
        if self.config.ema:
            for lo, hi in route.owned:
                route.state[AVERAGE][lo:hi] = route.params[lo:hi]
        if route.audit:
            route.audit.note_all()
        self.begun = True

    def read_init(self) -> Init | None:
        """Read the file of --init once; from then on the options name its SHA-256."""
        if self.config.init and not self.init:
            self.init = read_init(self.comm, self.config, self.network, self.net)
            self.config = replace(self.config, init_sha256=self.init.sha256)
        return self.init

    def require_begun(self) -> None:
        """Raise RuntimeError where there are no parameters yet."""
        if not self.begun:
            raise RuntimeError("no parameters yet: call start() or checkpointing.resume() first")

    def train_step(self, follows: bool = False) -> dict[str, Any]:
        """One step: batch -> forward -> loss -> backward -> sum -> update -> record.

        If another `follows` before anything else, parameters may still be on their way.
        """
        self.require_begun()
        clock, route = self.clock, self.route
        self._begin_step()
        total = self.batches.global_size(self.step)
        losses, correct = np.zeros((2, self.info.shards))
        for branch in route.branches:
            after = following(branch, route.branches, self.step, self.steps)
            parts, x = self.micro_batches.read(branch, self.step, after)
            clock.mark("reading")
            here = list(branch)
            found = self.micro_batches.gradient(parts, x, self.step, total, route)
            losses[here], correct[here] = found
            route.add(*branch)
            clock.mark("exchange")
        self.times.waits(clock.elapsed)
        route.wait()
        clock.mark("waiting")
        route.reduce_scatter()
        clock.mark("exchange")
        route.check()
        self.saves.arrived()
        clock.mark("audit")
        self.agreed = self._agree(losses, correct, total)
        clock.mark("exchange")
        self.update(route, self.lr(self.step), self.agreed.norm, self.step + 1)
        clock.mark("update")
        self.saves.arriving = not route.all_gather(follows and not self.agreed.interrupts)
        clock.mark("exchange")
        return self._record(total)

    def _begin_step(self) -> None:
        """Tell every part that names the step in its messages which step this is."""
        self.clock.lap()
        for part in (self.micro_batches.monitor, self.route.audit):
            if part:
                part.step = self.step + 1

    def _agree(self, losses: np.ndarray, correct: np.ndarray, total: int) -> Agreement:
        """The step's sums over all shards, the same on every rank and at any rank count.

        Raises Diverged on every rank where a number is not finite or has exploded.
        """
        signal, route = signals.received[0] if signals.received else 0, self.route
        arithmetic, due = self.net.ops.ARITHMETIC, self.saves.due()
        squares = route.partition.squares(route.total, route.answers, arithmetic)
        times = self.times.contribution()
        agreed = agree(self.comm, losses, correct, squares, signal, due, arithmetic, times)
        self.times.take(agreed.times)
        finite = agreed.is_finite()
        found = exploded(agreed.loss / total, agreed.norm, self.info.classes) if finite else ""
        if found or not finite:
            self.check_all(route.total)
            found = found or self.micro_batches.first_nonfinite(self.step, route, self.comm)
            raise Diverged(f"step {self.step + 1}: {found}")
        return agreed

    def check_all(self, total: np.ndarray | None = None) -> None:
        """Raise RankError where the replica is no longer what the last step has left; collective.

        With the `total` gradient, also where that is not what this rank has summed.
        """
        if self.route.audit:
            self.route.audit.check_all(total)
        barrier(self.comm)  # no rank goes on where one has raised

    def _record(self, total: int) -> dict[str, Any]:
        """Count the step, of so many samples, as done; return its record."""
        epoch, _ = self.batches.position(self.step)
        spent, agreed = self.clock.lap(), self.agreed
        record = dict(
            step=self.step + 1,
            epoch=epoch + 1,
            loss=agreed.loss / total,
            accuracy=agreed.correct / total,
            lr=self.lr(self.step),
            gradient_norm=agreed.norm,
            **digests(self.route.audit, self.net, self.comm.rank),
            **speed(total, spent),
        )
        self.totals.add(total, spent)
        images = self.batches.sizes(self.step)[list(self.route.local_shards)].sum()
        self.times.note(self.step + 1, spent, images, self.route)
        self.epoch.add(agreed.loss, agreed.correct, total, sum(spent.values()))
        self.step += 1
        return record

    def finish_epoch(self) -> dict[str, Any]:
        """Return the record of the epoch that has ended, and begin the next one."""
        done, self.epoch = self.epoch, EpochSums()
        number = self.step // self.batches.steps_per_epoch
        sha256 = self.route.vectors.digest()
        return dict(step=self.step, epoch=number, **done.record(), sha256=sha256)

    def validate(self) -> tuple[dict[str, Any], np.ndarray | None]:
        """Score the held-out images: the record, and the parameters if they are the best.

        The moving average is scored too, where there is one, and then decides which is best.
        """
        self.require_begun()
        models = {"": self.route.params}
        if self.config.ema:
            models["average_"] = self.route.vectors.whole(self.route.state[AVERAGE])
        scores, best = self.validation.score(
            self.net, models, self.step, self.comm,
            done=lambda count: self.clock.listener("scoring held-out images"),
        )  # fmt: skip
        self.end_early()
        return dict(step=self.step, epoch=self.batches.position(self.step)[0], **scores), best

    def end_early(self) -> None:
        """Make this step the last where scores have stopped improving."""
        if self.validation.out_of_patience:
            self.steps = self.step
