"""The program: the same versions and kernels on all ranks, since others give other bits."""

import platform
from collections.abc import Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from dist_vgg.base import machine
from dist_vgg.base.errors import UserError
from dist_vgg.doctor.findings import FAULT, OK, WARNING, Finding, World, unlike
from dist_vgg.kernels import sets
from dist_vgg.kernels.sets import on_every_processor
from dist_vgg.mpi.command import library_name, program_facts

if TYPE_CHECKING:
    from mpi4py import MPI

CHECK = "program"
# What train compares at its start and refuses, and how to mend it; other things may differ.
MENDS = {
    "the version of dist_vgg": "install the same version on every host",
    "the version of NumPy": "install the same version on every host",
    "the kernels": "install the same on every host, or train with --kernels numpy",
    "the BLAS kernels": machine.MEND,
    "the MPI library": "ranks of one job need the same MPI: load the same module on every host",
}


def facts(comm: "MPI.Intracomm") -> dict[str, Any]:
    """The versions of all that computes here, by what messages call it."""
    from mpi4py import MPI

    found = {
        **program_facts(),
        "the MPI library": library_name(MPI.Get_library_version()),
        "the version of Python": platform.python_version(),
        "the version of h5py": version("h5py"),
        "the version of mpi4py": version("mpi4py"),
    }
    missing = sets.why_missing(sets.COMPILED)
    try:
        kernels = sets.load(sets.AUTO)
    except UserError as error:
        return dict(versions=found, error=str(error), missing=missing)
    found["the kernels"] = f"{kernels.NAME} {kernels.VERSION}"
    if not on_every_processor(kernels):
        found["the BLAS kernels"] = machine.facts()["the BLAS kernels"]
    return dict(versions=found, error="", missing=missing)


def judge(world: World) -> Iterator[Finding]:
    """What differs between ranks, and what is missing."""
    wrong = False
    for error in dict.fromkeys(rank["program"]["error"] for rank in world):
        if error:
            wrong = True
            yield Finding(FAULT, CHECK, error)
    versions = [rank["program"]["versions"] for rank in world]
    for name in dict.fromkeys(name for each in versions for name in each):
        differing = unlike(world, "program", "versions", name)
        if differing and all(name in each for each in versions):
            wrong = True
            level = FAULT if name in MENDS else WARNING
            mend = MENDS.get(name, "it does no harm that is known; install the same all the same")
            yield Finding(level, CHECK, f"ranks differ in {name}: {differing}", mend)
    if wrong:
        return
    mine, missing = versions[0], world[0]["program"]["missing"]
    slower = "; pip install 'dist_vgg[fast]' brings faster ones" if missing else ""
    yield Finding(
        OK, CHECK, f"dist_vgg {mine['the version of dist_vgg']}, NumPy "
        f"{mine['the version of NumPy']}, kernels {mine['the kernels']}{slower}",
    )  # fmt: skip
