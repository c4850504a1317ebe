"""The machine that a benchmark runs on, and the software that computes there."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dist_vgg.bench.against import OTHERS
from dist_vgg.runs.provenance import describe_machine

if TYPE_CHECKING:
    from mpi4py import MPI


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def this_machine() -> dict[str, Any]:
    """Processor, cores and memory, as far as the system tells."""
    model = _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()
    total = _field("/proc/meminfo", "MemTotal")
    return dict(
        processor=" ".join(model.split()),
        cores=cores(),
        memory_gib=round(int(total.split()[0]) / 2**20, 1) if total else None,
        load_before=round(os.getloadavg()[0], 2),  # other people's work slows ours down
    )


def measure(comm: "MPI.Intracomm") -> dict[str, Any]:
    """The versions of all that computes. A worker asks, since MPI must run for its own."""
    return describe_machine()


def machine_words(machine: Mapping[str, Any]) -> str:
    """The machine and its software, in two lines."""
    versions = machine["versions"]
    blas = ", ".join(versions["blas"]) or "unknown BLAS"
    mpi = " ".join(versions["mpi"].partition(",")[0].split())
    gib = f", {machine['memory_gib']} GiB" if machine["memory_gib"] else ""
    others = [
        f", {other.title} {versions[name]}" for name, other in OTHERS.items() if name in versions
    ]
    return (
        f"machine   {machine['processor']}, {machine['cores']} cores{gib}, {machine['machine']}, "
        f"load {machine['load_before']}\n"
        f"software  Python {versions['python']}, NumPy {versions['numpy']} ({blas}), "
        f"mpi4py {versions['mpi4py']} ({mpi}){''.join(others)}"
    )


def _field(path: str, name: str) -> str:
    """The value of a `name : value` line of a file; empty where there is none."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((s.split(":", 1)[1].strip() for s in lines if s.startswith(name)), "")
