"""A run's folder: where it is, what it says of the run, and how a run goes on.

config.json        options, versions, machine: what a stranger needs to repeat the run
metrics.jsonl      see log.py
checkpoints/       see state/checkpoint.py
weights.h5         the network, when training has ended or was stopped
average.h5         likewise, the moving average of its weights, with --ema
best.h5            what did best on held-out images, with --patience
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dist_vgg.base.errors import UserError
from dist_vgg.base.files import lock, write_text
from dist_vgg.mpi.collectives import allgather_text, bcast_text, collective_errors
from dist_vgg.state import standby
from dist_vgg.state.checkpoint import checkpoints
from dist_vgg.state.weights import load_weights

if TYPE_CHECKING:
    from mpi4py import MPI

RUNS = Path("runs")
FOLDER_SECONDS = 5  # that a shared disk may take to show a new folder to another host


def choose_folder(options: Mapping[str, Any], resume: bool, comm: "MPI.Intracomm") -> Path:
    """The run's folder: --out, or a new one, or on --resume the newest."""
    wanted = options.get("out", "")
    if not wanted and comm.rank == 0:
        if resume:
            started = [path.parent for path in RUNS.glob("*/config.json")]
            newest = max(filter(holds_steps, started), key=_last_change, default=None)
            wanted = str(newest or "")
        else:
            wanted = str(_dated())
    folder = bcast_text(comm, wanted)
    if not folder:
        raise UserError(f"no run to resume in {RUNS}/; name one with --out, or leave --resume out")
    return Path(folder)


def _dated() -> Path:
    """The folder of a run that begins now and has no other name."""
    return RUNS / time.strftime("%Y%m%d-%H%M%S")


def new_folder(wanted: Path | None = None) -> Path:
    """Make a folder that nobody had before: the one wanted, or the next free name.

    Two runs that begin in the same second want the same.
    """
    folder = wanted = wanted or _dated()
    number = 1
    while True:
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1
            folder = wanted.with_name(f"{wanted.name}-{number}")
        except OSError as error:
            raise UserError(f"can't make the run's folder {folder}: {error.strerror}") from error


def run_name(folder: Path) -> str:
    """The name by which a run's memory is found, or "" where its config.json doesn't tell."""
    try:
        name = json.loads((folder / "config.json").read_text())["run"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return name if isinstance(name, str) and name.isalnum() else ""


def holds_steps(folder: Path) -> bool:
    """Whether a run has left something to go on with, on disk or in memory."""
    name = run_name(folder)
    in_memory = bool(name) and any(copy.step for copy in standby.kept(name, folder))
    return in_memory or bool(checkpoints(folder / "checkpoints"))


def _last_change(folder: Path) -> float:
    paths = [folder / "config.json", folder / "metrics.jsonl", folder / "checkpoints"]
    return max(path.stat().st_mtime for path in paths if path.exists())


def prepare_folder(
    folder: Path,
    comm: "MPI.Intracomm",
    resume: bool,
    description: dict[str, Any],
    over_damaged: bool = False,
    named: bool = True,
) -> Path:
    """Write config.json, in a new folder or where a run goes on; never mix two runs in one.

    Returns the folder. It is another one if the user has not `named` it and somebody has taken
    the name meanwhile. A new run may use a folder whose run has left neither a checkpoint nor a
    step in memory and, with `over_damaged`, one whose steps in memory turned out to be damaged.
    """
    with collective_errors(comm):
        if comm.rank == 0:
            folder = folder if named else new_folder(folder)
            if resume:
                _note_resumption(folder, description)
            else:
                _claim(folder, description, over_damaged)
    return Path(bcast_text(comm, str(folder)))


def _note_resumption(folder: Path, description: dict[str, Any]) -> None:
    """Add to config.json's "resumed" what this later start of the run is."""
    path = folder / "config.json"
    try:
        first = json.loads(path.read_text())
        later = [*first.get("resumed", []), description]
    except (OSError, ValueError, TypeError, AttributeError):
        first, later = description, [description]
    now = {name: description[name] for name in ("run", "steps")}
    try:
        write_text(path, json.dumps({**first, **now, "resumed": later}, indent=2) + "\n")
    except UserError as error:
        # A full disk is no reason to lose the training as well.
        print(f"warning: {error}; training goes on without", flush=True)


def _claim(folder: Path, description: dict[str, Any], over_damaged: bool) -> None:
    """Make the folder of a new run and write its config.json; UserError if it holds a run."""
    done = (folder / "weights.h5").exists() or checkpoints(folder / "checkpoints")
    if done or (not over_damaged and holds_steps(folder)):
        raise UserError(
            f"{folder} holds a run already; go on with --resume --out {folder}, "
            "or choose another --out"
        )
    try:
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        if not lock(folder / "checkpoints"):
            raise UserError(f"another run has just begun in {folder}; choose another --out")
        for name in ("metrics.jsonl", "average.h5", "best.h5"):  # of a run that came to nothing
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"can't make the run's folder {folder}: {error.strerror}") from error
    write_text(folder / "config.json", json.dumps(description, indent=2) + "\n")


def check_shared(
    folder: Path,
    run: str,
    hosts: Sequence[str],
    comm: "MPI.Intracomm",
    beat: Callable[[str], object],
) -> None:
    """Under a supervisor on several hosts: see that those who need the run's folder have it.

    Rank 0 must have the one in which the supervisor keeps its elastic.jsonl; UserError on every
    rank where it has not. A warning names the hosts that could not take rank 0's place.
    """
    with collective_errors(comm):
        if comm.rank == 0 and not _appears(folder, (folder / "elastic.jsonl").exists, beat):
            raise UserError(
                f"the run's folder {folder} is not the one that dist_vgg.elastic has on its host; "
                "name one with --out on a disk that the hosts share"
            )
    sees = _appears(folder, lambda: run_name(folder) == run, beat)
    texts = allgather_text(comm, "yes" if sees else "")
    without = dict.fromkeys(host for host, text in zip(hosts, texts, strict=True) if not text)
    if without:
        print(
            f"warning: {', '.join(without)} can't see the run's folder {folder}: if {hosts[0]} is "
            "lost, training can't go on there; put --out on a disk that all hosts share",
            flush=True,
        )


def _appears(folder: Path, there: Callable[[], bool], beat: Callable[[str], object]) -> bool:
    """Whether something is there in a folder, or soon: a shared disk may show new files late."""
    end = time.monotonic() + FOLDER_SECONDS
    while not there():
        if time.monotonic() > end:
            return False
        with suppress(OSError):
            next(folder.parent.iterdir(), None)  # has NFS ask its server what is new
        time.sleep(0.1)
        beat("looking for the run's folder")
    return True


def record_early_end(folder: Path, steps: int) -> None:
    """Say in config.json that the run has ended after fewer steps than it set out to do."""
    path = folder / "config.json"
    try:
        content = {**json.loads(path.read_text()), "steps": steps}
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"can't read {path} ({error})") from error
    write_text(path, json.dumps(content, indent=2) + "\n")


def has_finished(folder: Path) -> bool:
    """Whether a run's folder has the weights of its last step, whole."""
    try:
        steps = json.loads((folder / "config.json").read_text())["steps"]
        return bool(load_weights(folder).step == steps)
    except (UserError, OSError, ValueError, KeyError, TypeError):
        return False
