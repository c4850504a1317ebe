"""Train VGG16 on many processes at once, with the same result as on one.

python -m data_prep                              once: shards in data/
mpirun -n 8 python -m dist_vgg.train             any number of ranks up to the shards
python -m dist_vgg.train --debug                 one process hosts all shards, and checks
mpirun -n 3 python -m dist_vgg.train --resume    go on with the newest run
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dist_vgg.base import signals
from dist_vgg.base.command_line import plural
from dist_vgg.base.errors import KILLED_BY, UserError
from dist_vgg.data.batches import load_local
from dist_vgg.data.dataset import open_set
from dist_vgg.data.samples import Samples
from dist_vgg.data.set_info import SetInfo
from dist_vgg.kernels import sets
from dist_vgg.mpi.collectives import bcast_text, collective_errors, require_same
from dist_vgg.mpi.command import run_command
from dist_vgg.recovery.host_memory import make_room
from dist_vgg.recovery.resume import Found, find_state
from dist_vgg.recovery.watchdog import Beat, watched
from dist_vgg.runs.compatibility import check_held_out, check_resumed, stored_options
from dist_vgg.runs.config import TrainConfig
from dist_vgg.runs.fields import flag
from dist_vgg.runs.folder import choose_folder, run_name
from dist_vgg.runs.options import train_parser
from dist_vgg.runs.recipes import read_toml
from dist_vgg.state.standby import tidied
from dist_vgg.training.loop import begin, closing, debug_checks, train
from dist_vgg.training.setup import reads_on_demand
from dist_vgg.training.trainer import Trainer

if TYPE_CHECKING:
    from mpi4py import MPI

OWN_OPTIONS = ("data", "out", "progress")  # that each rank may have its own of


def main(argv: Sequence[str], comm: "MPI.Intracomm") -> int:
    """Run the command; returns its exit status."""
    signals.catch_signals()  # again: MPI may have set its own
    request = read_request(argv, comm)
    folder = choose_folder(request.given, request.resume == "yes", comm)
    found = find_earlier(request, folder, comm)
    config = all_options(request, found, comm)
    # Who looks closer, at a prompt or through finite differences, may take his time.
    with watched(comm, 0 if request.debug else config.stall_timeout) as beat:
        info, shards, held_out = read_data(config, found, comm, beat)
        run, standby = names_of(config, folder, found, comm)
        if found:
            make_room(comm, run, folder, found.unsaved, config.keep)
        with tidied(standby):
            kept = standby if config.standby == "auto" and config.audit else ""
            trainer = Trainer(config, info, shards, comm, kept, held_out=held_out)
            report_to(trainer, beat)
            with closing(trainer, request.debugger):
                check_epochs(trainer, folder, found)
                folder = begin(trainer, folder, run, found, request.resume == "if-any")
                if request.debug:
                    debug_checks(trainer)
                train(trainer, folder)
    finished = trainer.step == trainer.steps
    return 0 if finished else KILLED_BY + trainer.agreed.stop_signal


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    given: dict[str, Any]  # options of training, those of a --config file included
    resume: str  # "yes", "if-any", or "" for a new run
    debug: bool
    debugger: bool


def read_request(argv: Sequence[str], comm: "MPI.Intracomm") -> Request:
    """The command line's request, after seeing that all ranks have the same."""
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
    return Request(given, resume, debug, debugger)


def find_earlier(request: Request, folder: Path, comm: "MPI.Intracomm") -> Found | None:
    """The state to go on from, where the request is to resume and there is one."""
    if not request.resume:
        return None
    timeout = request.given.get("stall_timeout", TrainConfig.stall_timeout)
    with watched(comm, 0 if request.debug else timeout) as beat:
        return find_state(folder, comm, request.resume == "yes", beat)


def all_options(request: Request, found: Found | None, comm: "MPI.Intracomm") -> TrainConfig:
    """All options: those of the run that goes on, and before them those that are given now."""
    with collective_errors(comm):
        config = stored_options(found.header["config"] if found else {}, **request.given).settled()
        config.check()
        sets.load(config.kernel_set)  # before anybody watches, since compiling takes its time
    return config


def read_data(
    config: TrainConfig,
    found: Found | None,
    comm: "MPI.Intracomm",
    beat: Beat,
) -> tuple[SetInfo, Mapping[int, Samples], Mapping[int, Samples]]:
    """The data set, this rank's shards of the training images, and those to validate on."""
    folder = Path(config.data)
    with collective_errors(comm):
        info = open_set(folder, whole=False)
        if found:
            check_resumed(config, info, found.header)
        if config.validate:
            check_held_out(info, config.data)
    beat("looking at the shards", 0)
    splits = ["train", *([info.held_out] if config.validate else [])]
    on_demand = reads_on_demand(comm, info, splits, config.image_memory)

    def load(split: str, limit: int = 0) -> Mapping[int, Samples]:
        with collective_errors(comm):
            return load_local(folder, info, split, limit, comm.size, comm.rank, on_demand)

    shards = load("train", config.limit)
    held_out = load(info.held_out) if config.validate else {}
    beat("reading the shards", 0)
    return info, shards, held_out


def names_of(
    config: TrainConfig, folder: Path, found: Found | None, comm: "MPI.Intracomm"
) -> tuple[str, str]:
    """The run's name, which it keeps for life, and the name that this start's memory has."""
    run = (run_name(folder) if found else "") or uuid.uuid4().hex[:16]
    run, start = bcast_text(comm, f"{run} {uuid.uuid4().hex[:8]}").split()
    return run, f"{run}-{start}"


def report_to(trainer: Trainer, beat: Beat) -> None:
    """Tell the watchdog of all that the trainer does; have Ctrl-C take its memory along."""
    trainer.clock.listener = lambda done: beat(done, trainer.step + 1)
    trainer.clock.listener("allocating memory")
    if trainer.route.is_leader and trainer.route.replica.path:
        signals.unlink_at_interrupt(trainer.route.replica.path)


def check_epochs(trainer: Trainer, folder: Path, found: Found | None) -> None:
    """Raise UserError where the run that goes on has done more steps than are asked for."""
    if found and found.header["step"] > trainer.planned:
        raise UserError(
            f"--epochs {trainer.config.epochs} is {plural(trainer.planned, 'step')}, and "
            f"{folder} has done {found.header['step']:,}; give it more epochs to go on"
        )


if __name__ == "__main__":
    signals.catch_signals()  # MPICH's own handler of SIGUSR1 hands on to one that was there before
    run_command("dist_vgg.train", main, train_parser)
