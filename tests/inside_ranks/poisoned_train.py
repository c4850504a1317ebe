"""dist_vgg.train whose last rank reads images that are not numbers; run under mpirun."""

import numpy as np

from dist_vgg import train
from dist_vgg.mpi.command import run_command
from dist_vgg.training import micro_batches

normalise = micro_batches.normalise


def poisoned(pixels: np.ndarray, mean: float, std: float) -> np.ndarray:
    from mpi4py import MPI

    x = normalise(pixels, mean, std)
    return x * np.nan if MPI.COMM_WORLD.rank == MPI.COMM_WORLD.size - 1 else x


micro_batches.normalise = poisoned
run_command("dist_vgg.train", train.main)
