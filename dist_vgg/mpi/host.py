"""What messages call a rank."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpi4py import MPI


def where_is(comm: "MPI.Intracomm") -> str:
    """This rank and its host."""
    from mpi4py import MPI

    return f"rank {comm.rank} on {MPI.Get_processor_name()}"
