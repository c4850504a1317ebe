"""What computed a run: versions of all that takes part, the machine, and the commit."""

import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import dist_vgg
from dist_vgg.base.machine import blas_kernels, numba_version


def describe_machine() -> dict[str, Any]:
    """Versions of all that computes, and the machine, for config.json."""
    from mpi4py import MPI
    from mpi4py import __version__ as mpi4py_version

    return dict(
        versions=dict(
            dist_vgg=dist_vgg.__version__,
            python=platform.python_version(),
            numpy=np.__version__,
            h5py=h5py.__version__,
            mpi4py=mpi4py_version,
            mpi=MPI.Get_library_version().splitlines()[0].strip("\0 "),
            blas=blas_kernels(),
            **({"numba": numba_version()} if "llvmlite" in sys.modules else {}),
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
