"""Waiting and failing together; run under mpirun with pytest-mpi."""

import numpy as np
import pytest
from mpi4py import MPI

from dist_vgg.comm import add_up, gather_texts, share_text, together
from dist_vgg.errors import UserError

pytestmark = pytest.mark.mpi
comm = MPI.COMM_WORLD


def test_texts_of_any_length_reach_everyone() -> None:
    texts = gather_texts(comm, "é" * comm.rank)
    assert texts == ["é" * rank for rank in range(comm.size)]
    assert share_text(comm, f"from rank {comm.rank}") == "from rank 0"


def test_numbers_add_up() -> None:
    assert (
        add_up(comm, np.full(3, comm.rank + 1)).tolist() == [comm.size * (comm.size + 1) // 2] * 3
    )


def test_a_mistake_on_one_rank_is_everyones() -> None:
    last = comm.size - 1
    with pytest.raises(UserError, match=f"rank {last} is wrong"), together(comm):
        if comm.rank == last:
            raise UserError(f"rank {last} is wrong")


def test_no_mistake_is_nobodys() -> None:
    with together(comm):
        pass
