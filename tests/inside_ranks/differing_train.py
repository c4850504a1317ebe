"""Train on ranks of which the last is on a host of its own, unlike the others in one thing.

differing_train.py THING [options of dist_vgg.train]
"""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from mpi4py import MPI

import dist_vgg
from dist_vgg import train
from dist_vgg.base import machine
from dist_vgg.kernels import numpy_set
from dist_vgg.mpi.command import run_command
from dist_vgg.runs import folder
from dist_vgg.runs.options import train_parser

thing = sys.argv.pop(1)
last = MPI.COMM_WORLD.rank == MPI.COMM_WORLD.size - 1
folder.FOLDER_SECONDS = 0.3  # what is not there won't come
MPI.Get_processor_name = lambda: "node2" if last else "node1"  # type: ignore[assignment]

if last and thing == "kernels":
    machine.blas_kernels = lambda: ["openblas 0.3.31 Haswell"]
elif last and thing == "version of kernels":
    numpy_set.VERSION = 7
elif last and thing == "threads":
    machine.blas_threads = lambda: [7]
elif last and thing == "version":
    dist_vgg.__version__ = "0.0.9"
elif last and thing == "NumPy":
    np.__version__ = "1.0"
elif last and thing == "source":  # the same version, with another source
    dist_vgg.__file__ = str(Path(os.devnull))
elif last and thing.startswith("--"):
    sys.argv += thing.split()
elif last and thing.startswith("cd "):
    os.chdir(thing[3:])
    os.environ.pop("DIST_VGG_ELASTIC", None)  # Open MPI hands no variables on to other hosts
elif last and thing == "product":  # kernels without a name
    machine.np = SimpleNamespace(random=np.random, float32=np.float64)  # type: ignore[assignment]

run_command("dist_vgg.train", train.main, train_parser)
