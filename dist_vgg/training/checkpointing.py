"""What a checkpoint holds of a training, and how one goes on from it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_vgg.base.errors import UserError
from dist_vgg.mpi.collectives import barrier, bcast_text, collective_errors
from dist_vgg.state.checkpoint import Checkpoint, save_checkpoint
from dist_vgg.state.checksums import PARAMETERS, parameter_digest
from dist_vgg.state.weights import Weights, save_weights
from dist_vgg.training.records import EpochSums
from dist_vgg.training.validation import Best

if TYPE_CHECKING:
    from dist_vgg.training.trainer import Trainer


def header(trainer: "Trainer") -> dict[str, Any]:
    """All of a checkpoint but its vectors."""
    return dict(
        step=trainer.step,
        config=trainer.config.as_dict(),
        network=trainer.network,
        dataset=trainer.info.digest,
        request=trainer.info.request,
        shards=trainer.info.shards,
        epoch=vars(trainer.epoch),
        best=vars(trainer.validation.best),
        kernels_version=trainer.net.ops.VERSION,
    )


def gather(trainer: "Trainer") -> Checkpoint | None:
    """Everything needed to go on from here, on rank 0."""
    trainer.require_begun()
    route = trainer.route
    state = {name: route.vectors.gather(vector) for name, vector in route.state.items()}
    if trainer.comm.rank:
        return None
    whole = {name: vector for name, vector in state.items() if vector is not None}
    return Checkpoint(**header(trainer), params=route.params, state=whole)


def save(trainer: "Trainer", folder: Path) -> None:
    """Check all vectors and write a checkpoint; UserError on every rank where that fails."""
    trainer.clock.listener("coming to save a checkpoint")
    trainer.saves.note_try()
    trainer.check_all()
    checkpoint = gather(trainer)
    with collective_errors(trainer.comm):
        if checkpoint:
            keep = trainer.config.keep
            save_checkpoint(
                folder / "checkpoints", checkpoint, keep, lambda *what: check(trainer, *what)
            )
    trainer.saves.step = trainer.step


def resume(
    trainer: "Trainer", checkpoint: Checkpoint | None, sums: Mapping[str, int] | None = None
) -> None:
    """Go on where a checkpoint ended; rank 0 has it, and the other ranks None.

    `sums` are its vectors' checksums, by name, from the moment when it was verified. Raises
    UserError where it is of another network or optimizer, RankError where it changed meanwhile.
    """
    route, comm = trainer.route, trainer.comm
    with collective_errors(comm):
        if checkpoint and not _fits(trainer, checkpoint):
            raise UserError(
                "the checkpoint does not belong to the network and optimizer that it names; "
                "remove it, or start a new run without --resume"
            )
    position: dict[str, Any] = {}
    if checkpoint:
        position = {name: getattr(checkpoint, name) for name in ("step", "epoch", "best")}
        route.params[:] = checkpoint.params
    position = json.loads(bcast_text(comm, json.dumps(position)))
    trainer.step, trainer.epoch = position["step"], EpochSums(**position["epoch"])
    trainer.validation.best = Best(**position["best"])
    trainer.end_early()
    route.vectors.broadcast()
    for name, vector in route.state.items():
        route.vectors.scatter(checkpoint.state[name] if checkpoint else None, vector)
    if route.audit:
        route.audit.note_all()
        for name, sum_ in (sums or {}).items():
            route.audit.check_whole(name, sum_)
    barrier(comm)  # nobody marks it as whole before rank 0 has found that it is
    trainer.begun = True


def _fits(trainer: "Trainer", checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint has the vectors and sums that the trainer goes on with."""
    return (
        len(checkpoint.params) == trainer.net.parameter_count
        and set(checkpoint.state) == set(trainer.update.state_names)
        and set(checkpoint.epoch) == set(vars(trainer.epoch))
        and set(checkpoint.best) == set(vars(trainer.validation.best))
    )


def keep_standby(trainer: "Trainer", folder: Path) -> None:
    """Mark the step as whole in the memory that outlives this process."""
    if trainer.route.audit and trainer.route.is_leader:
        trainer.route.audit.commit({**header(trainer), "folder": str(folder.resolve())})
    trainer.clock.mark("audit")


def check(trainer: "Trainer", name: str, vector: Any) -> None:
    """Raise RankError where a vector in a file is not what the last step has left."""
    audit = trainer.route.audit
    if audit:
        for lo, hi in trainer.route.partition.buckets:
            audit.check(PARAMETERS if name == "params" else name, vector, lo, hi)


def write_weights(trainer: "Trainer", path: Path, name: str, params: np.ndarray) -> None:
    """Write one of this step's vectors, by its name, as a network ready to be used."""
    info = trainer.info
    content = Weights(
        network=trainer.network,
        mean=info.mean,
        std=info.std,
        source=info.source,
        dataset=info.digest,
        step=trainer.step,
        sha256=parameter_digest(params),
        params=params,
        kernels=trainer.net.ops.NAME,
        kernels_version=trainer.net.ops.VERSION,
        class_names=info.class_names,
        preparation=info.preparation,
    )
    save_weights(path, content, lambda _, vector: check(trainer, name, vector))
