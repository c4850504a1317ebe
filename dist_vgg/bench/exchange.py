"""The sum over ranks alone: milliseconds, and bytes a second."""

import argparse
import time
from collections.abc import Callable, Iterator
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_vgg.base.errors import UserError
from dist_vgg.base.progress import Progress
from dist_vgg.base.table import table
from dist_vgg.bench.chart import Chart
from dist_vgg.bench.hardware import cores
from dist_vgg.bench.options import add_number, add_numbers
from dist_vgg.bench.processes import result_of, worker_command
from dist_vgg.bench.readings import Readings, per_second
from dist_vgg.bench.report import Report
from dist_vgg.mpi.collectives import allreduce_sum, barrier

if TYPE_CHECKING:
    from mpi4py import MPI

HEADER = ("", "route", "ms", "GB/s a rank", "of all", "of memory", "all / memory")
NOTES = """\
bytes: those that each rank must send where nothing is shared, 2 (ranks - 1) / ranks of
the vector; memory: adding two arrays into a third on all cores at once; the route node
shares memory and may pass 100%; mpi: MPI_Allreduce; every sum was checked"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    add_numbers(parser, "--ranks", [2, 4, 8], "ranks")
    add_numbers(parser, "--sizes", [1_000_000, 10_000_000, 39_928_522], "numbers in the vector")
    add_number(parser, "--repeat", 10, "readings of each")
    add_number(
        parser, "--stream", 1 << 30, "bytes of all arrays together that show the memory's bandwidth"
    )


def run(options: argparse.Namespace) -> Report:
    """Measure each number of ranks with each length of the vector."""
    if min(options.ranks) < 2:
        raise UserError("--ranks 1: an exchange needs at least 2")
    settings = dict(repeat=options.repeat, stream=options.stream, cores=cores())
    chart = Chart("Sum over ranks, and back to all of them", "ms")
    progress = Progress(len(options.ranks) * len(options.sizes))
    rows, results = [], []
    try:
        for ranks, count in product(options.ranks, options.sizes):
            name = f"{ranks} ranks, {count:,} numbers"
            found = result_of(name, worker_command(ranks, "exchange", count=count, **settings))
            progress.update(1, name)
            for result in _results(found, ranks, count):
                results.append(result)
                rows.append(_row(name, result))
                chart.add(name, result["route"], result["ms"])
    finally:
        progress.close()
    return Report(f"{table(HEADER, rows)}\n\n{NOTES}", dict(exchanges=results), chart)


def _results(found: dict[str, Any], ranks: int, count: int) -> Iterator[dict[str, Any]]:
    """For each route its times, and its bytes a second beside the memory's."""
    bandwidth = Readings.of(value / 1e9 for value in found["bandwidth"])
    # What each rank must send, on whatever route: its share of the sum, twice.
    sent = 2 * (ranks - 1) / ranks * 4 * count
    for kind, seconds in found["seconds"].items():
        times = Readings.of(1e3 * value for value in seconds)
        rate = sent / times.median * 1e3
        yield dict(
            ranks=ranks,
            numbers=count,
            route=kind,
            ms=times,
            bytes_a_rank=sent,
            gb_per_s_a_rank=rate / 1e9,
            memory_gb_per_s=bandwidth,
            share_of_memory=ranks * rate / 1e9 / bandwidth.median,
        )


def _row(name: str, result: dict[str, Any]) -> list[str]:
    """A row of the table."""
    of_rank, memory = result["gb_per_s_a_rank"], result["memory_gb_per_s"].median
    gigabytes = (f"{value:.2f}" for value in (of_rank, result["ranks"] * of_rank, memory))
    return [
        name,
        result["route"],
        str(result["ms"]),
        *gigabytes,
        f"{result['share_of_memory']:.0%}",
    ]


def measure(
    comm: "MPI.Intracomm", count: int, repeat: int, stream: int, cores: int
) -> dict[str, Any]:
    """Seconds to bring the sum of a vector from each rank to all ranks, on each route in turns.

    `mpi` is MPI's own allreduce, to compare with. Also the memory's bandwidth, in bytes a
    second, of as many ranks at once as there are cores: each adds two arrays into a third. All
    these arrays together have `stream` bytes.
    """
    from dist_vgg.exchange.placement import choose

    shards_of_rank = [[rank] for rank in range(comm.size)]
    kinds = ["flat"] + ["node"] * (choose(comm, "auto", count, shards_of_rank) == "node")
    # Whole numbers, so that their sum is exact in whatever order it is taken.
    pattern = (np.arange(count) % 1021).astype(np.float32)
    ways: dict[str, Allreduce] = {kind: RouteAllreduce(comm, pattern, kind) for kind in kinds}
    ways["mpi"] = Allreduce(comm, pattern)
    seconds: dict[str, list[float]] = {kind: [] for kind in ways}
    adding = min(cores, comm.size)
    numbers = max(1, stream // (3 * 4 * adding))
    arrays = np.ones((3, numbers if comm.rank < adding else 0), np.float32)
    bandwidth = []
    for turn in range(repeat + 1):
        barrier(comm)
        rates = np.zeros(comm.size)
        if comm.rank < adding:
            rates[comm.rank] = arrays.nbytes * per_second(0, np.add, *arrays)
        allreduce_sum(comm, rates)
        spent = {kind: way.seconds(turn) for kind, way in ways.items()}
        if turn:  # the first turn warms up
            bandwidth.append(float(rates.sum()))
            for kind, value in spent.items():
                seconds[kind].append(value)
    for way in ways.values():
        way.close()
    return dict(seconds=seconds, bandwidth=bandwidth)


class Allreduce:
    """MPI's own allreduce, of vectors whose sum is known."""

    def __init__(self, comm: "MPI.Intracomm", pattern: np.ndarray) -> None:
        self.comm, self.pattern = comm, pattern
        self.vector = self._vector()

    def seconds(self, turn: int) -> float:
        """Sum the ranks' vectors of this turn, check the sum, and return the seconds it took."""
        ranks, turn = self.comm.size, turn % 8  # small numbers, whose sums are exact
        np.multiply(self.pattern, np.float32(self.comm.rank + turn), out=self.vector)
        seconds = self._sum()
        expected = self.pattern * np.float32(ranks * (ranks - 1) // 2 + ranks * turn)
        wrong = np.array([not np.array_equal(self.result(), expected)], "i8")
        if allreduce_sum(self.comm, wrong)[0]:
            raise RuntimeError(f"{type(self).__name__}: the sum is wrong")
        return seconds

    def result(self) -> np.ndarray:
        """The sum."""
        return self.vector

    def close(self) -> None:
        """Release shared memory."""

    def _vector(self) -> np.ndarray:
        return np.empty_like(self.pattern)

    def _sum(self) -> float:
        from mpi4py import MPI

        return self._slowest(lambda: self.comm.Allreduce(MPI.IN_PLACE, self.vector))

    def _slowest(self, work: Callable[[], object]) -> float:
        """Start some work on all ranks at once; the seconds of the rank that takes longest."""
        barrier(self.comm)
        start = time.perf_counter()
        work()
        seconds = np.zeros(self.comm.size)
        seconds[self.comm.rank] = time.perf_counter() - start
        return float(allreduce_sum(self.comm, seconds).max())


class RouteAllreduce(Allreduce):
    """One of the project's routes: reduce-scatter and all-gather, with no update in between."""

    def __init__(self, comm: "MPI.Intracomm", pattern: np.ndarray, kind: str) -> None:
        from dist_vgg.exchange.route import Route

        shards_of_rank = [[rank] for rank in range(comm.size)]
        self.route = Route(comm, len(pattern), shards_of_rank, kind=kind)
        super().__init__(comm, pattern)

    def result(self) -> np.ndarray:
        return self.route.params

    def close(self) -> None:
        self.route.close()

    def _vector(self) -> np.ndarray:
        return self.route.gradient()

    def _sum(self) -> float:
        route = self.route
        seconds = self._slowest(self._reduce)
        # Here the optimizer would update the parameters; its time is not the exchange's.
        for lo, hi in route.owned:
            route.params[lo:hi] = route.total[lo:hi]
        return seconds + self._slowest(route.all_gather)

    def _reduce(self) -> None:
        self.route.add(self.comm.rank)
        self.route.reduce_scatter()
