"""Replicas in files of shared memory, for the tests of what a killed run leaves."""

import os
from pathlib import Path
from typing import Any

from dist_vgg.state import replica, shm
from dist_vgg.state.checksums import Cells
from dist_vgg.state.replica import Layout, Replica

COUNT = 1001
CELLS = Cells(COUNT, 256)
LAYOUT = Layout(COUNT, vectors=2, copies=2, cells=len(CELLS))


def opened(run: str = "run") -> Replica:
    """A replica in a new file, of a rank that owns the first 512 numbers."""
    path = shm.folder() / f"{run}-0-{os.getpid()}"
    handle = replica.create(path, LAYOUT, [(0, (0, COUNT)), (1, (0, 512))])
    memory = replica.attach(path, LAYOUT, ["momentum"])
    os.close(handle)
    return memory


def write(memory: Replica, step: int, home: Path) -> None:
    """Fill the current copy and mark it, as the end of a step does."""
    vectors = (memory.params, memory.state["momentum"])
    for number, vector in enumerate(vectors):
        vector[:512] = step + number / 2
    memory.tables[:2] = [CELLS.sums(vector, 0, COUNT) for vector in vectors]
    header: dict[str, Any] = dict(step=step, folder=str(home.resolve()), pieces=[(0, 512)])
    memory.commit(header, CELLS)
