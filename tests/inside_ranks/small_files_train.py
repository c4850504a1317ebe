"""dist_vgg.train where no file may grow beyond 50 kB; run under mpirun.

The limit stands for a full disk: both fail in the middle of writing.
"""

import resource

from mpi4py import MPI

from dist_vgg.mpi.command import run_command
from dist_vgg.train import main

assert MPI.Is_initialized()  # it has made its own, larger files
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
run_command("dist_vgg.train", main)
