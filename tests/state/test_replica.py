"""A node's vectors in memory: one copy or two, and which of them a step reads and writes."""

from pathlib import Path

import numpy as np
from replicas import CELLS, COUNT, LAYOUT, opened, write

from dist_vgg.state import replica, standby
from dist_vgg.state.replica import Layout


def test_a_step_writes_the_copy_that_it_does_not_read(shm_folder: Path) -> None:
    memory = opened()
    memory.params[:], memory.state["momentum"][:512] = 1, 2
    old, old_momentum = memory.params, memory.state["momentum"]
    memory.swap()
    memory.params[:], memory.state["momentum"][:512] = 3, 4
    assert set(old) == {1}
    assert set(old_momentum[:512]) == {2}
    memory.swap()
    assert memory.params is old


def test_a_private_replica_has_one_copy_and_keeps_nothing(shm_folder: Path) -> None:
    memory = replica.private(Layout(COUNT, 2, 1, len(CELLS)), ["momentum"])
    before = memory.params
    memory.swap()
    assert memory.params is before
    write(memory, 1, shm_folder)
    memory.keep()
    memory.remove()
    assert list(shm_folder.iterdir()) == []


def test_processes_that_attach_see_one_memory(shm_folder: Path) -> None:
    memory = opened()
    assert memory.path
    other = replica.attach(memory.path, LAYOUT, ["momentum"])
    memory.state["momentum"][7] = 5
    memory.tables[2, 1] = 9
    assert other.state["momentum"][7] == 5
    assert other.tables[2, 1] == 9
    # Vectors begin at cache lines, and none reaches into the next.
    places = [LAYOUT.offset(copy, vector) for copy in range(2) for vector in range(2)]
    assert all(place % 64 == 0 for place in places)
    assert (np.diff(places) >= 4 * COUNT).all()


def test_memory_whose_name_has_gone_can_be_kept_all_the_same(shm_folder: Path) -> None:
    memory = opened()
    write(memory, 7, shm_folder)
    assert memory.path
    memory.path.unlink()
    memory.keep()
    (copy,) = standby.kept("run", shm_folder)
    assert (copy.step, copy.verify()) == (7, True)
