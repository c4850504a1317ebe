"""What has started this process, and what that says about ranks before MPI is asked."""

import os
from contextlib import suppress
from typing import NamedTuple


class Launched(NamedTuple):
    """What the launcher says of this process, whatever MPI makes of it."""

    rank: int
    size: int  # of the ranks that it has started, at least
    launcher: str  # "mpirun", "srun", or "" where nothing has started this process as a rank
    speaks: bool  # for all of them, where MPI doesn't connect them


def launched() -> Launched:
    """What has started this process: the nearest launcher, so the mpirun within an srun.

    SLURM_NTASKS would tell nothing: a batch script and all that it starts have it as well.
    """
    # mpirun's, and srun's with PMI; and srun's own, which the ranks of an mpirun inherit.
    pairs = {
        name: (os.environ.get(rank, ""), os.environ.get(size, ""))
        for name, rank, size in (
            ("open mpi", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
            ("pmi", "PMI_RANK", "PMI_SIZE"),
            ("srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
        )
    }
    for pair in pairs.values():
        with suppress(ValueError):
            number, count = map(int, pair)
            launcher = "srun" if pair == pairs["srun"] else "mpirun"
            return Launched(number, count, launcher, speaks=number == 0)
    with suppress(KeyError, ValueError):
        number = int(os.environ["PMIX_RANK"])  # PMIx tells no size, so rank 0 may be alone
        return Launched(number, number + 1, "mpirun", speaks=number <= 1)
    return Launched(0, 1, "", speaks=True)
