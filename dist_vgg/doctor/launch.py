"""The launch: as many ranks as were asked for, of the MPI that its mpirun belongs to."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dist_vgg.base.command_line import plural
from dist_vgg.base.launcher import launched
from dist_vgg.doctor.findings import FAULT, OK, WARNING, Finding, World
from dist_vgg.mpi.command import library_name, not_connected

if TYPE_CHECKING:
    from mpi4py import MPI

CHECK = "launch"
# What names an MPI in the version of its library, and in that of its mpirun. Intel MPI and MVAPICH
# start their ranks as MPICH does.
FAMILIES = {
    "Open MPI": ("open mpi", "openrte", "prrte"),
    "MPICH": ("mpich", "hydra", "intel(r) mpi", "mvapich"),
}
VERSION_SECONDS = 5  # that `mpirun --version` may take


def facts(comm: "MPI.Intracomm") -> dict[str, Any]:
    """What the launcher, the environment and MPI say of this job."""
    from mpi4py import MPI

    started = launched()
    mpirun = (shutil.which("mpirun") or "") if comm.rank == 0 else ""
    return dict(
        launcher=started.launcher,
        started=started.size,
        size=comm.size,
        refusal=not_connected(started, comm.size, MPI.Get_library_version()),
        library=library_name(MPI.Get_library_version()).replace(" Version:", ""),
        mpirun=mpirun,
        mpirun_version=_version(mpirun) if mpirun else "",
        slurm_tasks=os.environ.get("SLURM_NTASKS", ""),
    )


def _version(mpirun: str) -> str:
    """What mpirun says of its version; "" where it says nothing."""
    try:
        return subprocess.run(
            [mpirun, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VERSION_SECONDS,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def family(version: str) -> str:
    """The kind of MPI that a version is of; "" for one that is not known here."""
    text = version.lower()
    return next(
        (name for name, marks in FAMILIES.items() if any(mark in text for mark in marks)), ""
    )


def judge(world: World) -> Iterator[Finding]:
    """Whether the job is what was asked for, and whether the next one will be."""
    found = world[0]["launch"]
    size, library = found["size"], found["library"]
    if size < found["started"]:
        what, _, mend = found["refusal"].partition("; ")
        yield Finding(FAULT, CHECK, what, mend)
        return
    start = f", as {found['launcher']} has started" if found["launcher"] else ""
    yield Finding(OK, CHECK, f"{plural(size, 'rank')}{start}; {library}")
    tasks = found["slurm_tasks"]
    if found["launcher"] and tasks.isdecimal() and int(tasks) > size:
        yield Finding(
            WARNING, CHECK, f"Slurm has given {tasks} tasks, and the job has {size}",
            f"mpirun -n {tasks} uses all of them",
        )  # fmt: skip
    here, there = family(library), family(found["mpirun_version"])
    if here and there and here != there:
        # A job that is connected has come by another mpirun, or by srun, which may be meant so.
        level = WARNING if found["launcher"] else FAULT
        yield Finding(
            level, CHECK, f"{found['mpirun']} is {there}'s, and Python uses {library}",
            "put the mpirun that belongs to it first in PATH, or install mpi4py for the other one",
        )  # fmt: skip
    elif not found["mpirun"] and not found["launcher"]:
        yield Finding(
            WARNING, CHECK, "no mpirun in PATH, so that there is one process only",
            "activate the environment, load the cluster's MPI module, or "
            "pip install 'dist_vgg[mpich]'",
        )  # fmt: skip
