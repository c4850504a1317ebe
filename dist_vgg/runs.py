"""A run's folder: where it is, what it says of the run, and how a run goes on.

config.json        options, versions, machine: what a stranger needs to repeat the run
metrics.jsonl      see runlog
checkpoints/       see checkpoint
weights.h5         the network, when training has ended or was stopped
"""

import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from threadpoolctl import threadpool_info

import dist_vgg
from dist_vgg.checkpoint import Checkpoint, checkpoints, load_newest
from dist_vgg.comm import share_text, together
from dist_vgg.config import TrainConfig
from dist_vgg.errors import UserError
from dist_vgg.files import write_text
from dist_vgg.shards import SetInfo

if TYPE_CHECKING:
    from mpi4py import MPI

RUNS = Path("runs")


def choose_folder(options: Mapping[str, Any], resume: bool, comm: "MPI.Intracomm") -> Path:
    """The run's folder: --out, or a new one, or on --resume the newest."""
    wanted = options.get("out", "")
    if not wanted and comm.rank == 0:
        if resume:
            newest = max(RUNS.glob("*/checkpoints/step-*.h5"), key=_written, default=None)
            wanted = str(newest.parents[1]) if newest else ""
        else:
            wanted = str(RUNS / time.strftime("%Y%m%d-%H%M%S"))
    folder = share_text(comm, wanted)
    if not folder:
        raise UserError(f"no run to resume in {RUNS}/; name one with --out, or leave --resume out")
    return Path(folder)


def _written(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0


def prepare_folder(
    folder: Path, comm: "MPI.Intracomm", resume: bool, description: dict[str, Any]
) -> None:
    """Write config.json, in a new folder or where a run goes on; never mix two runs in one.

    Its "resumed" lists what each later start ran on. A folder whose run never came to a
    checkpoint may be used again.
    """
    with together(comm):
        if comm.rank:
            return
        path = folder / "config.json"
        if resume:
            try:
                first = json.loads(path.read_text())
            except (OSError, ValueError):
                first = description
            later = [*first.get("resumed", []), description]
            write_text(path, json.dumps({**first, "resumed": later}, indent=2) + "\n")
            return
        if (folder / "weights.h5").exists() or checkpoints(folder / "checkpoints"):
            raise UserError(
                f"{folder} holds a run already; go on with --resume --out {folder}, "
                "or choose another --out"
            )
        try:
            (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
            (folder / "metrics.jsonl").unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"can't make the run's folder {folder}: {error.strerror}") from error
        write_text(path, json.dumps(description, indent=2) + "\n")


def describe_machine() -> dict[str, Any]:
    """Versions of all that computes, and the machine, for config.json."""
    from mpi4py import MPI
    from mpi4py import __version__ as mpi4py_version

    blas = {
        f"{i['internal_api']} {i['version']}" for i in threadpool_info() if i["user_api"] == "blas"
    }
    return dict(
        versions=dict(
            dist_vgg=dist_vgg.__version__,
            python=platform.python_version(),
            numpy=np.__version__,
            h5py=h5py.__version__,
            mpi4py=mpi4py_version,
            mpi=MPI.Get_library_version().splitlines()[0].strip("\0 "),
            blas=sorted(blas),
        ),
        machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        git_commit=_git_commit(),
        started=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    )


def _git_commit() -> str | None:
    """The commit of the source in use, where it is a checkout."""
    try:
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def load_checkpoint(
    folder: Path, comm: "MPI.Intracomm"
) -> tuple[Checkpoint | None, dict[str, Any]]:
    """The newest whole checkpoint, on rank 0, and what it says of itself, on every rank."""
    checkpoint, header = None, {}
    with together(comm):
        if comm.rank == 0:
            if not (folder / "checkpoints").is_dir():
                raise UserError(f"nothing to resume in {folder}; name a run's folder with --out")
            for leftover in folder.glob("**/.*.partial"):
                leftover.unlink()  # of a process that was killed while it wrote
            checkpoint = load_newest(folder / "checkpoints", lambda words: print(words, flush=True))
            header = {k: v for k, v in vars(checkpoint).items() if k not in ("params", "state")}
    return checkpoint, json.loads(share_text(comm, json.dumps(header)))


def check_resumed(config: TrainConfig, info: SetInfo, header: Mapping[str, Any]) -> None:
    """Refuse to go on with another network, data set or recipe than the checkpoint's."""
    if header["dataset"] != info.digest:
        raise UserError(
            f"the checkpoint was trained on another data set than {config.data} holds "
            f"({header['dataset'][:16]} against {info.digest[:16]}); name the right one with --data"
        )
    if (header["request"], header["shards"]) != (info.request, info.shards):
        raise UserError(
            f"the checkpoint was trained on {header['shards']} shards and {config.data} has the "
            f"same images in {info.shards} others; name the right folder with --data"
        )
    before = TrainConfig(**header["config"]).result_options()
    for name, value in config.result_options().items():
        if name == "epochs" and config.schedule == "constant":
            continue
        if value != before[name]:
            flag = "--" + name.replace("_", "-")
            raise UserError(
                f"{flag} {value} contradicts the checkpoint, trained with {flag} {before[name]}; "
                "leave it out to go on, or start a new run without --resume"
            )
