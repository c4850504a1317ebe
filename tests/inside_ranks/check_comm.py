"""Waiting, failing together, and what counts as progress; run under mpirun with pytest-mpi."""

import os
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

from dist_vgg.base import files
from dist_vgg.base.errors import UserError
from dist_vgg.mpi.collectives import (
    allgather_text,
    allreduce_sum,
    barrier,
    bcast_text,
    collective_errors,
    waits,
)
from dist_vgg.recovery.board import Board

pytestmark = pytest.mark.mpi
comm = MPI.COMM_WORLD
PID = str(os.getpid())


def test_texts_of_any_length_reach_everyone() -> None:
    texts = allgather_text(comm, "é" * comm.rank)
    assert texts == ["é" * rank for rank in range(comm.size)]
    assert bcast_text(comm, f"from rank {comm.rank}") == "from rank 0"


def test_numbers_add_up() -> None:
    assert (
        allreduce_sum(comm, np.full(3, comm.rank + 1)).tolist()
        == [comm.size * (comm.size + 1) // 2] * 3
    )


def test_a_mistake_on_one_rank_is_everyones() -> None:
    last = comm.size - 1
    with pytest.raises(UserError, match=f"rank {last} is wrong"), collective_errors(comm):
        if comm.rank == last:
            raise UserError(f"rank {last} is wrong")


def test_no_mistake_is_nobodys() -> None:
    with collective_errors(comm):
        pass


def test_what_counts_as_progress() -> None:
    board = Board(comm, comm.rank)

    def beats() -> int:
        return board.heartbeats()[comm.rank].beats

    first = beats()
    with waits.observe(board.waiting), files.progress.observe(board.alive):
        barrier(comm)
        # The time that others took is not this rank's.
        waited = beats()
        assert waited > first
        # Nor is a disk's that is slow, but not dead; files are dealt with in pieces.
        with tempfile.NamedTemporaryFile() as file:  # pytest's tmp_path is not for many ranks
            file.truncate(3 * files.HASH_BYTES)
            files.seal(Path(file.name))
        assert beats() >= waited + 3
        # Another thread that goes on says nothing about this one.
        thread = threading.Thread(target=board.alive)
        before = beats()
        thread.start()
        thread.join()
        assert beats() == before
    assert {heartbeat.pid for heartbeat in board.heartbeats()} == set(
        map(int, allgather_text(comm, PID))
    )
