"""What each rank of a benchmark runs: it measures, and rank 0 prints the result as a line of JSON.

The first argument names a module of this folder; its `measure` takes the second, an object of
JSON, as keyword arguments. All data is random and in memory.

mpirun -n 2 python -m dist_vgg.bench.worker step '{"shards": 8, "seconds": 2, "micro_batch": 32}'
"""

import json
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from dist_vgg.base import machine
from dist_vgg.mpi.command import run_command

if TYPE_CHECKING:
    from mpi4py import MPI


def main(argv: Sequence[str], comm: "MPI.Intracomm") -> int:
    """Measure one benchmark and print the result."""
    name, settings = argv
    machine.settle(1)
    benchmark = import_module(f"dist_vgg.bench.{name}")
    print(json.dumps(benchmark.measure(comm, **json.loads(settings))))
    return 0


if __name__ == "__main__":
    run_command("dist_vgg.bench.worker", main)
