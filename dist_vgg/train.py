"""Train VGG16 on many processes at once, with the same result as on one.

python -m data_prep                              once: shards in data/
mpirun -n 8 python -m dist_vgg.train             any number of ranks up to the shards
python -m dist_vgg.train --debug                 one process hosts all shards, and checks
mpirun -n 3 python -m dist_vgg.train --resume    go on with the newest run
"""

import pdb
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_vgg.base import signals
from dist_vgg.base.command_line import plural
from dist_vgg.base.errors import KILLED_BY, Diverged, UserError
from dist_vgg.data.batches import load_local
from dist_vgg.data.dataset import open_set
from dist_vgg.data.samples import Samples
from dist_vgg.mpi.collectives import (
    allreduce_sum,
    barrier,
    bcast_text,
    collective_errors,
    require_same,
)
from dist_vgg.mpi.command import run_command
from dist_vgg.recovery.resume import first_of_host, load_state
from dist_vgg.recovery.watchdog import watched
from dist_vgg.runs.config import TrainConfig
from dist_vgg.runs.fields import flag
from dist_vgg.runs.folder import (
    check_held_out,
    check_resumed,
    choose_folder,
    run_name,
    stored_options,
)
from dist_vgg.runs.options import train_parser
from dist_vgg.runs.recipes import read_toml
from dist_vgg.state.checkpoint import Checkpoint, save_checkpoint
from dist_vgg.state.checksums import PARAMETERS, whole_sum
from dist_vgg.state.replica import is_crowded, make_room, tidied
from dist_vgg.training.loop import train
from dist_vgg.training.trainer import Trainer

if TYPE_CHECKING:
    from mpi4py import MPI

OWN_OPTIONS = ("data", "out", "progress")  # that each rank may have its own of


def main(argv: Sequence[str], comm: "MPI.Intracomm") -> int:
    """Run the command; returns its exit status."""
    signals.catch_signals()  # again: MPI may have set its own
    with collective_errors(comm):
        options = vars(train_parser().parse_args(argv))
        file, resume = options.pop("config", None), options.pop("resume", "")
        debug, debugger = options.pop("debug", False), options.pop("pdb", False)
        if (debug or debugger) and comm.size > 1:
            raise UserError("--debug is one process that hosts all shards: start it without mpirun")
        if debugger and not debug:
            raise UserError("--pdb goes with --debug")
        given = {**(read_toml(file) if file else {}), **options}
        TrainConfig(**given)
    # From here on ranks with other options would wait for each other in other places.
    compared = {flag(name): value for name, value in given.items() if name not in OWN_OPTIONS}
    compared |= {"--resume": resume} if resume else {}
    require_same(comm, compared, "start all ranks with the same options")
    folder = choose_folder(given, resume == "yes", comm)
    state: Checkpoint | None = None
    header: dict[str, Any] = {}
    place = ""
    if resume:
        timeout = 0 if debug else given.get("stall_timeout", TrainConfig.stall_timeout)
        with watched(comm, timeout) as beat:
            state, header, place = load_state(folder, comm, resume == "yes", beat)
    place = place if header else ""  # --resume if-any may have found nothing
    sums = _sums(state)
    stored = header.get("config", {})
    config = stored_options(stored, **given)
    with collective_errors(comm):
        config.check()
    # Who looks closer, at a prompt or through finite differences, may take his time.
    with watched(comm, 0 if debug else config.stall_timeout) as beat:
        with collective_errors(comm):
            info = open_set(Path(config.data))
            if place:
                check_resumed(config, info, header)
        beat("looking at the shards", 0)
        with collective_errors(comm):
            shards = load_local(
                Path(config.data), info, "train", config.limit, comm.size, comm.rank
            )
        held_out: Mapping[int, Samples] = {}
        if config.validate:
            with collective_errors(comm):
                check_held_out(info, config.data)
            with collective_errors(comm):
                held_out = load_local(Path(config.data), info, "test", 0, comm.size, comm.rank)
        beat("reading the shards", 0)
        fresh = uuid.uuid4().hex[:16]
        run = bcast_text(comm, (run_name(folder) if place else "") or fresh)
        kept = config.standby == "auto" and config.audit
        start = bcast_text(comm, uuid.uuid4().hex[:8])
        if place:
            _give_way(run, folder, state if place == "memory" else None, config.keep, comm)
        with tidied(f"{run}-{start}"):
            trainer = Trainer(config, info, shards, comm, run, start if kept else "")
            trainer.held_out = held_out
            trainer.clock.listener = lambda done: beat(done, trainer.step + 1)
            trainer.clock.listener("allocating memory")
            if trainer.route.is_leader and trainer.route.replica.path:
                signals.lose_at_interrupt(trainer.route.replica.path)
            try:
                if place and header["step"] > trainer.planned:
                    raise UserError(
                        f"--epochs {config.epochs} is {plural(trainer.planned, 'step')}, and "
                        f"{folder} has done {header['step']:,}; give it more epochs to go on"
                    )
                train(trainer, folder, state, sums, place, resume == "if-any", debug)
            except Exception as error:
                if debugger:
                    print(f"{type(error).__name__}: {error}")
                    pdb.post_mortem(error.__traceback__)
                if isinstance(error, UserError):
                    unsaved = trainer.saved < trainer.step
                    trainer.route.close(keep=unsaved and not isinstance(error, Diverged))
                # Other errors are one rank's own: closing would wait for ranks that never come.
                raise
            trainer.route.close()
    finished = trainer.step == trainer.steps
    return 0 if finished else KILLED_BY + trainer.stop_signal


def _sums(state: Checkpoint | None) -> dict[str, int]:
    """Checksums of a state's vectors, by name."""
    vectors = {PARAMETERS: state.params, **state.state} if state else {}
    return {name: whole_sum(vector) for name, vector in vectors.items()}


def _give_way(
    run: str, folder: Path, state: Checkpoint | None, keep: int, comm: "MPI.Intracomm"
) -> None:
    """Where memory is short, remove what earlier processes have left in it.

    The `state` that rank 0 has from there must be on disk first; where it can't be written, the
    memory stays as it is.
    """
    acts = first_of_host(comm)
    if not allreduce_sum(comm, np.array([acts and is_crowded(run, folder)], np.int64))[0]:
        return
    try:
        with collective_errors(comm):
            if state:
                save_checkpoint(folder / "checkpoints", state, keep)
    except UserError as error:
        print(f"warning: {error}; what was kept in memory stays there", flush=True)
        return
    if acts:
        make_room(run, folder)
    barrier(comm)


if __name__ == "__main__":
    signals.catch_signals()  # MPICH's own handler of SIGUSR1 hands on to one that was there before
    run_command("dist_vgg.train", main, train_parser)
