"""Files: the same data on all hosts and how fast it reads, and a run's folder that all share."""

import errno
import fcntl
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_vgg.base import files as base_files
from dist_vgg.base.errors import UserError
from dist_vgg.base.files import whole_hdf5
from dist_vgg.data.dataset import load_shard, open_set
from dist_vgg.data.set_info import SetInfo
from dist_vgg.data.shards import find_shards, hosted
from dist_vgg.doctor.findings import (
    FAULT,
    OK,
    WARNING,
    Finding,
    World,
    by_host,
    names,
    ranks_words,
    unlike,
)  # fmt: skip
from dist_vgg.mpi.collectives import barrier
from dist_vgg.runs.folder import FOLDER_SECONDS

if TYPE_CHECKING:
    from mpi4py import MPI

DATA, OUT = "data", "out"  # checks
WHOLE = 256 << 20  # bytes of a set up to which ranks verify all their shards, else each its first
READ = 64 << 20  # bytes that show how fast a disk reads
WRITTEN = 16 << 20  # bytes of the file that shows how long a checkpoint takes
# MB/s below which reading may hold training up: an image of 64x64 has about 1.5 KB in a shard, and
# a narrow network trains on thousands of them a second.
SLOW_READ = 20
SMALL = 100e6  # bytes of a set that is read in a moment even so
SLOW_CHECKPOINT = 60  # seconds; the guide for Slurm asks for the signal that long ahead


def data_facts(folder: Path, rank: int, ranks: int) -> dict[str, Any]:
    """What a rank's shards say of their set, and how fast they read, in MB/s."""
    try:
        paths = find_shards(folder) if os.access(folder, os.R_OK | os.X_OK) else []
        size = sum(path.stat().st_size for path in paths)
        info = open_set(folder, whole=False)
        for index in list(hosted(info.shards, ranks, rank))[: None if size <= WHOLE else 1]:
            load_shard(folder, "train", index, info, on_demand=True)
        rate = _read_rate(paths[rank % len(paths)])
    except UserError as error:
        return dict(error=str(error))
    except OSError as error:
        return dict(error=f"can't read {error.filename or folder}: {error.strerror}")
    return dict(error="", rate=rate, bytes=size, facts=_words(info), shards=info.shards)


def _words(info: SetInfo) -> dict[str, str]:
    return {name: str(value) for name, value in info.facts().items()}


def _read_rate(path: Path) -> float:
    """MB/s of reading a file's begin, from the disk where the system lets go of what it has."""
    with path.open("rb") as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        start = time.perf_counter()
        count = len(file.read(READ))
        return count / 1e6 / max(time.perf_counter() - start, 1e-9)


def judge_data(world: World) -> Iterator[Finding]:
    """Data that is missing, damaged, different or slow, on which hosts."""
    found = [rank[DATA] for rank in world]
    wrong = [(rank, rank[DATA]["error"]) for rank in world if rank[DATA]["error"]]
    for text in dict.fromkeys(text for _, text in wrong):
        whose = [rank for rank, error in wrong if error == text]
        where = "" if len(whose) == len(world) else (
            f"{ranks_words([r['rank'] for r in whose])} on {names(r['host'] for r in whose)}: "
        )  # fmt: skip
        what, _, mend = text.partition("; ")
        same = "give every host the same shards"
        yield Finding(FAULT, DATA, where + what, same if where else mend or same)
    whole = [rank for rank in world if not rank[DATA]["error"]]
    differing = False
    for name in found[0].get("facts", {}) if len(whole) == len(world) else ():
        if words := unlike(world, DATA, "facts", name):
            differing = True
            yield Finding(
                FAULT, DATA, f"ranks differ in {name}: {words}", "give every host the same shards"
            )
    if not whole:
        return
    shards = whole[0][DATA]["shards"]
    if len(world) > shards:
        yield Finding(
            FAULT, DATA, f"{len(world)} ranks for {shards} shards: a rank needs one",
            f"start fewer ranks, or prepare more with data_prep --shards {len(world)}",
        )  # fmt: skip
    size = max(rank[DATA]["bytes"] for rank in whole)
    # Of ranks that read at once, the best shows what the disk of a host can do.
    rates = {host: max(r[DATA]["rate"] for r in ranks) for host, ranks in by_host(whole).items()}
    slow = [host for host, rate in rates.items() if rate < SLOW_READ and size > SMALL]
    if slow:
        yield Finding(
            WARNING, DATA, f"{names(slow)} reads {min(rates.values()):.0f} MB/s",
            "copy the shards to a disk of each host",
        )  # fmt: skip
    elif not wrong and not differing and len(world) <= shards:
        yield Finding(
            OK, DATA, f"the same {shards} shards everywhere, {size / 1e6:,.0f} MB; reads "
            f"{min(rates.values()):,.0f} MB/s",
        )  # fmt: skip


def out_facts(comm: "MPI.Intracomm", folder: Path, checkpoint_bytes: int) -> dict[str, Any]:
    """Whether ranks see what rank 0 writes into a folder, and the lock it has; collective.

    What is made here is removed again.
    """
    from dist_vgg.mpi.collectives import bcast_text

    found: dict[str, Any] = dict(error="", seen=False, kept_out=True)
    name, made = f".doctor-{uuid.uuid4().hex[:16]}", []
    name = bcast_text(comm, name)
    if comm.rank == 0:
        made = [place for place in (folder, *folder.parents) if not place.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(name)
            found |= _write(folder, f"{name}.h5", checkpoint_bytes)
            base_files.lock(folder)
        except UserError as error:
            found["error"] = str(error)
        except OSError as error:
            found["error"] = f"can't use {error.filename or folder}: {error.strerror}"
    ready = bcast_text(comm, found["error"])
    if not ready:
        found["seen"] = _sees(folder / name, name, comm.rank)
        found["kept_out"] = _kept_out(folder) if found["seen"] else True
    barrier(comm)
    if comm.rank == 0:
        with suppress(OSError):
            (folder / name).unlink(missing_ok=True)
        for place in made:
            with suppress(OSError):
                place.rmdir()
    return found


def _write(folder: Path, name: str, checkpoint_bytes: int) -> dict[str, Any]:
    """The seconds that a checkpoint would take, from a smaller file, and the room for it."""
    numbers = np.random.Generator(np.random.Philox(0)).random(WRITTEN // 4, np.float32)
    path, start = folder / name, time.perf_counter()
    try:
        with whole_hdf5(path, "a file as large as part of a checkpoint") as file:
            file.create_dataset("params", data=numbers, dtype="<f4")
        seconds = time.perf_counter() - start
    finally:
        path.unlink(missing_ok=True)
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    scaled = seconds * checkpoint_bytes / WRITTEN
    return dict(checkpoint_seconds=scaled, checkpoint_bytes=checkpoint_bytes, free=free)


def _sees(path: Path, content: str, rank: int) -> bool:
    """Whether a file of rank 0's is here; a shared disk may take a moment to show it."""
    end = time.monotonic() + (FOLDER_SECONDS if rank else 0)
    while True:
        with suppress(OSError):
            if path.read_text() == content:
                return True
        if time.monotonic() >= end:
            return False
        time.sleep(0.1)


def _kept_out(folder: Path) -> bool:
    """Whether rank 0's lock of a folder keeps another handle out."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EAGAIN)
    finally:
        os.close(handle)
    return False


def judge_out(world: World) -> Iterator[Finding]:
    """A run's folder that can't be written, is not shared, not locked, small or slow."""
    first: Mapping[str, Any] = world[0][OUT]
    if first["error"]:
        what, _, mend = first["error"].partition("; ")
        yield Finding(FAULT, OUT, f"{world[0]['host']} (rank 0): {what}",
                      mend or "choose another folder with --out")  # fmt: skip
        return
    wrong = False
    blind = [
        host for host, ranks in by_host(world).items() if not all(r[OUT]["seen"] for r in ranks)
    ]
    if blind:
        wrong = True
        yield Finding(
            WARNING, OUT, f"{names(blind)} can't see what rank 0 writes to --out",
            "train does without; under elastic put --out on a disk that all hosts share",
        )  # fmt: skip
    open_to = [rank["host"] for rank in world if not rank[OUT]["kept_out"]]
    if open_to:
        wrong = True
        yield Finding(
            WARNING, OUT, f"a lock of the folder keeps nobody out on {names(open_to)}",
            "never start two runs in one folder there, or use a disk with locks (NFS 4, Lustre "
            "with -o flock)",
        )  # fmt: skip
    size, free, seconds = first["checkpoint_bytes"], first["free"], first["checkpoint_seconds"]
    if free < 2 * size:
        wrong = True
        level = FAULT if free < size else WARNING
        yield Finding(
            level, OUT, f"{free >> 20:,} MiB are free, and a checkpoint has {size >> 20:,}; each "
            "is written beside the last", "free space or choose another folder",
        )  # fmt: skip
    if seconds > SLOW_CHECKPOINT:
        wrong = True
        yield Finding(
            WARNING, OUT, f"a checkpoint takes about {seconds:.0f} s",
            "choose a faster disk; give Slurm's --signal more time than that",
        )  # fmt: skip
    if not wrong:
        yield Finding(
            OK, OUT, f"all hosts see it, and locks work; a checkpoint of {size >> 20:,} MiB takes "
            f"about {seconds:.1f} s",
        )  # fmt: skip
