"""Memory: whether /dev/shm, and the host, have what the replicas and gradients of a run need."""

import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dist_vgg.doctor.findings import FAULT, OK, WARNING, Facts, Finding, World, by_host, names
from dist_vgg.state import shm

if TYPE_CHECKING:
    from mpi4py import MPI

    from dist_vgg.network.sequential import Sequential

CHECK = "memory"
SPARE = 1.05  # MPI has shared memory of its own, a few MiB for each rank
ENLARGE = "enlarge /dev/shm (docker run --shm-size=8g; a memory-backed emptyDir in Kubernetes)"


def facts(
    comm: "MPI.Intracomm", net: "Sequential", shards: int, vectors: int, micro_batch: int
) -> dict[str, Any]:
    """The route and the standby that train would choose, and whether their memory can be had.

    Collective. For a network's parameters in `vectors`: these and the optimizer's. The first rank
    of each host takes the memory and gives it back: what is said to be free is not always granted.
    """
    from dist_vgg.data.shards import hosted
    from dist_vgg.exchange.nodes import neighbours
    from dist_vgg.exchange.partition import Partition
    from dist_vgg.exchange.placement import choose, node_bytes, why_no_standby
    from dist_vgg.mpi.collectives import barrier, freed
    from dist_vgg.training.setup import products_of, shards_together

    count = net.parameter_count
    together = shards_together(comm, net.ops.TOGETHER, micro_batch)
    hosting = [hosted(shards, comm.size, rank) for rank in range(comm.size)]
    products = products_of(net, micro_batch, shards)
    cut = Partition(count, comm.size, products.lo if products else None)
    run = count, hosting, vectors, together, cut.tail
    kind = choose(comm, "auto", *run)
    missing = why_no_standby(comm, kind, *run)
    with freed(neighbours(comm)) as node:
        needed = node_bytes(comm, node, *run) * (node.size > 1)  # each rank must ask
        leads = node.rank == 0
        # A standby has two copies; the route node needs one of them in any case.
        standby = 4 * count * vectors * (1 if needed else 2)
    found: dict[str, Any] = dict(
        needed=needed,
        standby=standby,
        free=shm.bytes_free(),
        available=available(),
        kind=kind,
        no_standby=missing,
        error="",
    )
    wanted = int(SPARE * (needed + (0 if missing else standby)))
    if leads and found["free"] >= wanted and found["available"] >= wanted:
        found["error"] = why_not_taken(wanted)
    barrier(comm)
    return found


def why_not_taken(size: int) -> str:
    """Why shared memory of so many bytes can't be had, after trying; "" where it can."""
    try:
        path = shm.make_folder() / f"doctor-{uuid.uuid4().hex[:16]}"
        try:
            os.close(shm.new_file(path, size, [(0, size)]))
        finally:
            path.unlink(missing_ok=True)
            with suppress(OSError):
                shm.folder().rmdir()  # where no run has anything in it
    except OSError as error:
        return error.strerror or str(error)
    return ""


def available() -> int:
    """Bytes that processes here may still take, of the host's memory and of their cgroup's."""
    from dist_vgg.doctor.cores import cgroup_files

    found = []
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        found.append(int(line.split()[1]) << 10)
    texts = [
        *cgroup_files("memory", "memory.max", "memory.current"),
        *cgroup_files("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ]
    for text in texts:
        with suppress(ValueError):  # "max"
            limit, used = map(int, text.split())
            found.append(max(0, limit - used))
    return min(found, default=1 << 62)


def judge(world: World) -> Iterator[Finding]:
    """What is too small, on which hosts."""
    wrong = False
    for host, ranks in by_host(world).items():
        for finding in _of_host(host, ranks):
            wrong = True
            yield finding
    missing = next((text for r in world if (text := r["memory"]["no_standby"])), "")
    if missing:
        yield Finding(
            WARNING, CHECK, f"standby none: {missing}; a crash loses the steps since the last "
            "checkpoint", ENLARGE,
        )  # fmt: skip
    elif not wrong:
        most = max(r["memory"]["needed"] + r["memory"]["standby"] for r in world)
        words = f"each host has the {most >> 20:,} MiB of /dev/shm that a run takes at most"
        yield Finding(OK, CHECK, f"{words}; route {world[0]['memory']['kind']}, with standby")


def _of_host(host: str, ranks: list[Facts]) -> Iterator[Finding]:
    found = ranks[0]["memory"]
    error = next((r["memory"]["error"] for r in ranks if r["memory"]["error"]), "")
    needed, free, there = found["needed"], found["free"], found["available"]
    if error:
        yield Finding(
            FAULT, CHECK, f"/dev/shm on {host} has {free >> 20:,} MiB free, and does not give "
            f"{needed + found['standby'] >> 20:,}: {error}", f"{ENLARGE}, or its limits",
        )  # fmt: skip
    elif there < max(needed, found["standby"]):
        yield Finding(
            FAULT, CHECK, f"{host} has {there >> 20:,} MiB of memory left, and a run takes "
            f"{max(needed, found['standby']) >> 20:,} at least",
            "a rank would be killed: use fewer ranks on a host, or a narrower network",
        )  # fmt: skip
    elif free < needed:
        yield Finding(
            WARNING, CHECK, f"/dev/shm on {host} has {free >> 20:,} MiB free of {needed >> 20:,} "
            "that the route node needs, so train takes the route flat, which is slower", ENLARGE,
        )  # fmt: skip


def too_little(world: World) -> str:
    """The hosts on which a run would lack memory, in words."""
    found = [(rank["host"], rank["memory"]) for rank in world]
    return names(
        host for host, has in found
        if has["error"] or has["available"] < 2 * max(has["needed"], has["standby"])
    )  # fmt: skip
