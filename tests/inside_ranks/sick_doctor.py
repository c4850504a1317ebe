"""dist_vgg.doctor on ranks of which the last is on a host of its own, with something wrong there.

sick_doctor.py THING,THING [options of dist_vgg.doctor]
"""

import errno
import fcntl
import os
import sys
import time
from types import SimpleNamespace
from typing import Any

things = sys.argv.pop(1).split(",")
if "bound" in things:  # all ranks to one core, as a wrong option of mpirun does
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])

import numpy as np  # noqa: E402
from mpi4py import MPI  # noqa: E402

from dist_vgg.doctor import __main__ as doctor  # noqa: E402
from dist_vgg.doctor import clocks, files, network, program, speed  # noqa: E402
from dist_vgg.exchange import sums  # noqa: E402
from dist_vgg.kernels import sets  # noqa: E402
from dist_vgg.mpi.command import run_command  # noqa: E402
from dist_vgg.state import shm  # noqa: E402

last = MPI.COMM_WORLD.rank == MPI.COMM_WORLD.size - 1
if "bound" not in things:
    MPI.Get_processor_name = lambda: "node2" if last else "node1"  # type: ignore[assignment]
known = {"node1": ["10.0.0.1"], "node2": ["10.0.0.2"]}
network.resolve = lambda host: known.get(host, [])
files.FOLDER_SECONDS = 0.3  # type: ignore[assignment]  # what is not there won't come
speed.ALONE = speed.TOGETHER = 0.1  # half the speed shows in a few products


def no_room(*arguments: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_lock(handle: int, how: int) -> None:
    """As on a file system where locks mean nothing."""


def off_by_one(blocks: Any, shards: int) -> np.ndarray:
    total = added(blocks, shards)
    total.view(np.uint32)[total != total.round()] += 1  # the last bit; whole numbers stay right
    return total


added = sums.sum_along_tree
if "little shared memory" in things:
    shm.bytes_free = lambda: 1000
if "refused memory" in things:
    shm.new_file = no_room
if last and "kernels" in things:
    sets.resolve = lambda name: "numpy"
if last and "version" in things:
    program.program_facts = lambda: {"the version of dist_vgg": "0.0.9 (source 0)"}
if last and "clock" in things:
    clocks.time = SimpleNamespace(time=lambda: time.time() + 60)  # type: ignore[assignment]
if last and "elsewhere" in things:
    os.chdir("/")
if last and "locks" in things:
    files.fcntl = SimpleNamespace(  # type: ignore[assignment]
        flock=no_lock, LOCK_EX=fcntl.LOCK_EX, LOCK_NB=fcntl.LOCK_NB
    )
if last and "bits" in things:
    sums.sum_along_tree = off_by_one
if last and "name" in things:
    known.pop("node1")
if last and "slow" in things:
    best = speed._best
    speed._best = lambda *arrays: best(*arrays) / 2

run_command("dist_vgg.doctor", doctor.main, doctor.own_parser, checks=False)
