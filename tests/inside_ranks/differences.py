"""A last rank that is on a host of its own, and unlike the others in one thing."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
from mpi4py import MPI

import dist_vgg
from dist_vgg.base import machine
from dist_vgg.kernels import numpy_set
from dist_vgg.runs import folder

last = MPI.COMM_WORLD.rank == MPI.COMM_WORLD.size - 1
folder.FOLDER_SECONDS = 0.3  # what is not there won't come
MPI.Get_processor_name = lambda: "node2" if last else "node1"  # type: ignore[assignment]

# An attribute that the last rank has otherwise.
OTHERWISE: dict[str, tuple[Any, str, Any]] = {
    "kernels": (machine, "blas_kernels", lambda: ["openblas 0.3.31 Haswell"]),
    "version of kernels": (numpy_set, "VERSION", 7),
    "threads": (machine, "blas_threads", lambda: [7]),
    "version": (dist_vgg, "__version__", "0.0.9"),
    "NumPy": (np, "__version__", "1.0"),
    "source": (dist_vgg, "__file__", str(Path(os.devnull))),  # the same version, of another source
    # Kernels without a name.
    "product": (machine, "np", SimpleNamespace(random=np.random, float32=np.float64)),
}


@contextmanager
def unlike(thing: str) -> Iterator[list[str]]:
    """Be so if this is the last rank; with the options that only this rank has."""
    if last and thing.startswith("cd "):
        os.chdir(thing[3:])
        os.environ.pop("DIST_VGG_ELASTIC", None)  # Open MPI hands no variables on to other hosts
    if last and thing in OTHERWISE:
        with mock.patch.object(*OTHERWISE[thing]):
            yield []
    else:
        yield thing.split() if last and thing.startswith("--") else []
