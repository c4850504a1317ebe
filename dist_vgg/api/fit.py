"""Training in this process, from a data set to a model: the train command without its folder.

It writes no file, prints nothing unless asked, and installs no signal handler. The parameters are
the same bits as the command's, with the same options and shards, on any number of ranks.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from dist_vgg.api.dataset import Dataset
from dist_vgg.api.model import Model, check_fits
from dist_vgg.base.errors import UserError
from dist_vgg.base.progress import Progress
from dist_vgg.mpi.collectives import collective_errors
from dist_vgg.runs.config import TrainConfig
from dist_vgg.state.weights import Weights
from dist_vgg.training import checkpointing, messages
from dist_vgg.training.optim import AVERAGE
from dist_vgg.training.trainer import Trainer

if TYPE_CHECKING:
    from mpi4py import MPI

Callback = Callable[[dict[str, Any], Model], object]  # gets a record and the model as it is then


def fit(
    train: Dataset,
    config: TrainConfig | None = None,
    *,
    held_out: Dataset | None = None,
    on_step: Callback | None = None,
    on_epoch: Callback | None = None,
    progress: bool = False,
    comm: "MPI.Intracomm | None" = None,
) -> Model:
    """Train a network on a data set; returns the model of the last step.

    `config` has the options of the train command by their names; those of folders, checkpoints
    and the command's own output do nothing here. With `validate` in it, `held_out` is scored.

    `on_step` and `on_epoch` are called as `on_step(record, model)`. The record is that of
    metrics.jsonl; that of an epoch has "held_out", too, where the held-out images were scored. The
    model uses the memory of the training, so it is good during the call; `model.copy()` may be
    kept. `progress` prints a line for each epoch.

    Without a communicator one process hosts all shards. With one, every rank calls `fit` with the
    same arguments and gets the same model. Start such a script by `python -m mpi4py`, which ends
    all ranks where one fails.

    While it trains, BLAS uses `config.blas_threads` threads, and afterwards as many as before.
    Longer time slices and a malloc that keeps freed memory stay, see `machine.settle`.

    Raises UserError for data or options that make no sense, and Diverged, one of these, where the
    loss explodes.
    """
    from mpi4py import MPI

    config = TrainConfig() if config is None else config
    comm = MPI.COMM_SELF if comm is None else comm
    with collective_errors(comm):
        _check(config, train, held_out)
        shards = train.local(comm.size, comm.rank, config.limit)
        scored = held_out.local(comm.size, comm.rank) if held_out is not None else {}
    with threadpool_limits(config.blas_threads, user_api="blas"), np.errstate(all="ignore"):
        trainer = Trainer(config, train.info, shards, comm, held_out=scored)
        try:
            with _closing(trainer):
                trainer.start()
                shown = "auto" if progress and comm.rank == 0 else "none"
                return _train(trainer, on_step, on_epoch, Progress(trainer.steps, shown))
        finally:
            del trainer
            gc.collect()  # its vectors are as large as the network, several times over


def _check(config: TrainConfig, train: Dataset, held_out: Dataset | None) -> None:
    """Raise UserError for options and data sets that make no sense together."""
    config.check()
    if config.validate and held_out is None:
        raise UserError(f"validate={config.validate} scores held-out images: give fit held_out=")
    if held_out is not None:
        if not config.validate:
            raise UserError(
                "held_out= is scored every TrainConfig(validate=...) epochs; set it to 1 or more"
            )
        info = train.info
        check_fits(held_out.info, info.size, info.channels, info.classes)


def _train(
    trainer: Trainer, on_step: Callback | None, on_epoch: Callback | None, progress: Progress
) -> Model:
    """All steps, as the command's loop takes them; the model at their end."""
    config, best = trainer.config, None
    while trainer.step < trainer.steps:
        number = trainer.step + 1
        epoch_done = number % trainer.batches.steps_per_epoch == 0
        record = trainer.train_step(follows=not (on_step or epoch_done or number == trainer.steps))
        line = f"epoch {record['epoch']}/{config.epochs} loss {record['loss']:.4f}"
        progress.update(1, line)
        if on_step:
            on_step(record, _model(trainer, trainer.route.params))
        if not epoch_done:
            continue
        record = trainer.finish_epoch()
        if config.validate and record["epoch"] % config.validate == 0:
            record["held_out"], params = trainer.validate()
            best = best if params is None else _model(trainer, params).copy()
        if progress.shown:
            progress.say(messages.epoch(record, config.epochs, record.get("held_out")))
        if on_epoch:
            on_epoch(record, _model(trainer, trainer.route.params))
    progress.close()
    trainer.check_all()
    model = _model(trainer, trainer.route.params).copy()
    model.best = best
    if config.ema:
        average = trainer.route.vectors.whole(trainer.route.state[AVERAGE])
        checkpointing.check(trainer, AVERAGE, average)
        model.average = _model(trainer, average).copy()
    return model


def _model(trainer: Trainer, params: np.ndarray) -> Model:
    """A model of a vector of this step, in the trainer's own memory."""
    info, ops = trainer.info, trainer.net.ops
    return Model(
        Weights(
            network=trainer.network,
            mean=info.mean,
            std=info.std,
            source=info.source,
            dataset=info.digest,
            step=trainer.step,
            sha256="",  # taken when asked for
            params=params,
            kernels=ops.NAME,
            kernels_version=ops.VERSION,
            class_names=info.class_names,
            preparation=info.preparation,
        ),
        ops,
    )


@contextmanager
def _closing(trainer: Trainer) -> Iterator[None]:
    """Give the trainer's memory back at the end, whatever the end is."""
    try:
        yield
    except BaseException as error:
        # One rank's own error: with others, closing would wait for ranks that never come.
        if trainer.comm.size == 1 or isinstance(error, UserError):
            trainer.route.close()
        raise
    trainer.route.close()
