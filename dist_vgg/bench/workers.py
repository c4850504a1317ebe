"""What the benchmarks measure, as it runs in the ranks that `dist_vgg.bench` starts.

Each kind of work takes its options by name, as JSON, and rank 0 prints its result as a line of
JSON. Data is random and lies in memory; no file is read or written.

mpirun -n 2 python -m dist_vgg.bench.workers step '{"shards": 8, "seconds": 2, "micro_batch": 32}'
"""

import json
import math
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_vgg.base import machine
from dist_vgg.base.errors import UserError
from dist_vgg.base.random import generator
from dist_vgg.bench.kernels import Layers, network_flops
from dist_vgg.data.samples import Samples, normalise
from dist_vgg.data.set_info import SetInfo
from dist_vgg.data.shards import hosted
from dist_vgg.mpi.collectives import allgather_text, allreduce_sum, barrier, bcast_text
from dist_vgg.mpi.command import run_command
from dist_vgg.network.vgg import initialise, vgg16
from dist_vgg.runs.config import TrainConfig
from dist_vgg.runs.provenance import describe_machine
from dist_vgg.training.checkpointing import keep_standby
from dist_vgg.training.records import peak_memory
from dist_vgg.training.scoring import BATCH
from dist_vgg.training.trainer import Trainer

if TYPE_CHECKING:
    from mpi4py import MPI

MEAN, STD = 127.5, 73.9  # of pixels that are uniformly random


def products(comm: "MPI.Intracomm", sizes: Sequence[int], seconds: float) -> dict[str, Any]:
    """The best rate of large matrix products, GFLOP/s of all ranks together, all at once."""
    rates = []
    for size in sizes:
        a, b, out = generator(0, "bench/products").random((3, size, size), np.float32)
        np.matmul(a, b, out=out)
        barrier(comm)
        rate = np.zeros(comm.size)
        rate[comm.rank] = _rate(seconds, np.matmul, a, b, out)
        rates.append(2 * size**3 * float(allreduce_sum(comm, rate).sum()) / 1e9)
    return dict(gflops=max(rates))


def _rate(seconds: float, work: Callable[..., object], *arrays: np.ndarray) -> float:
    """How many times a second something can be done to arrays, over at least so long."""
    start, count, elapsed = time.perf_counter(), 0, 0.0
    while not count or elapsed < seconds:
        work(*arrays)
        count += 1
        elapsed = time.perf_counter() - start
    return count / elapsed


def layers(
    comm: "MPI.Intracomm", repeat: int, sizes: Sequence[int], **settings: Any
) -> dict[str, Any]:
    """Each distinct layer on its own, and in between the rate of products."""
    measured = Layers(**settings)
    measured.measure()
    measured.forget()  # that was to warm up
    peaks = []
    for _ in range(repeat):
        peaks.append(products(comm, sizes, 0.2)["gflops"])
        measured.measure()
    return dict(peaks=peaks, layers=measured.results())


def step(comm: "MPI.Intracomm", shards: int, seconds: float, **options: Any) -> dict[str, Any]:
    """Whole training steps of the real trainer: at least two, and for about so many seconds."""
    trainer = _trainer(comm, shards, options)
    parts: Counter[str] = Counter()
    with np.errstate(all="ignore"):
        barrier(comm)
        first_step, start = time.time(), time.perf_counter()
        trainer.train_step()
        steps = _agreed(comm, max(2, math.ceil(seconds / (time.perf_counter() - start))))
        images = trainer.totals.images
        barrier(comm)
        start = time.perf_counter()
        for _ in range(steps):
            parts.update(trainer.train_step()["seconds"])
        barrier(comm)
        elapsed = time.perf_counter() - start
    everyones: Counter[str] = Counter()
    for text in allgather_text(comm, json.dumps(parts)):
        everyones.update(json.loads(text))
    result = dict(
        images_per_s=(trainer.totals.images - images) / elapsed,
        steps=steps,
        shares={name: spent / comm.size / elapsed for name, spent in everyones.items()},
        memory=peak_memory(comm, trainer.route),
        first_step=first_step,
        route=trainer.route.kind,
        parameters=trainer.net.parameter_count,
        flops=sum(network_flops(trainer.net)),
    )
    trainer.route.close()
    return result


def audit(comm: "MPI.Intracomm", shards: int, repeat: int, **options: Any) -> dict[str, Any]:
    """Seconds of steps without their computation, audited and kept in memory or not, in turns.

    Also those of two whole steps, and of what is done for an audited one where none is computed.
    """
    from dist_vgg.exchange.route import Route

    name = f"bench-{bcast_text(comm, uuid.uuid4().hex[:16])}"
    trainers = dict(
        both=_trainer(comm, shards, options, name),
        neither=_trainer(comm, shards, {**options, "audit": False}),
    )

    def go(trainer: Trainer) -> float:
        barrier(comm)
        start = time.perf_counter()
        trainer.train_step()
        keep_standby(trainer, Path())
        barrier(comm)
        return time.perf_counter() - start

    try:
        with np.errstate(all="ignore"):
            steps = [go(trainers["both"]) for _ in range(3)][1:]  # the first is to warm up
            for trainer in trainers.values():
                trainer.micro_batches.gradient = lambda *rest: (0.0, 0)  # type: ignore[method-assign]
                assert isinstance(trainer.route, Route)
                for vector in trainer.route.memory.mine:
                    vector[:] = 0  # or they would grow, added up in place again and again
                go(trainer)
            seconds = [{key: go(one) for key, one in trainers.items()} for _ in range(repeat)]
    finally:
        for trainer in trainers.values():
            trainer.route.close()
    kept = not trainers["both"].route.no_standby
    return dict(step=steps, seconds=seconds, kept=kept, route=trainers["both"].route.kind)


def _trainer(
    comm: "MPI.Intracomm", shards: int, options: dict[str, Any], name: str = ""
) -> Trainer:
    """A trainer at its start, on random images; with a name each step outlives the processes."""
    config = TrainConfig(**options, epochs=1 << 30, schedule="constant")
    each = 4 * config.micro_batch
    info = SetInfo(
        source="random",
        request="{}",
        shards=shards,
        size=64,
        channels=1,
        classes=10,
        mean=MEAN,
        std=STD,
        zoom="none",
        seed=0,
        train_count=shards * each,
        test_count=0,
        digest="",
    )
    mine = {i: _random_samples(i, each) for i in hosted(shards, comm.size, comm.rank)}
    trainer = Trainer(config, info, mine, comm, f"{name}-0" if name else "")
    trainer.start()
    return trainer


def _random_samples(shard: int, count: int) -> Samples:
    rng = generator(0, "bench/images", shard)
    pixels = rng.integers(0, 256, (count, 64, 64, 1), np.uint8)
    return Samples(pixels, rng.integers(0, 10, count, np.uint8), shard * count + np.arange(count))


def _agreed(comm: "MPI.Intracomm", count: int) -> int:
    """Rank 0's number, on every rank."""
    return int(allreduce_sum(comm, np.array([0 if comm.rank else count]))[0])


def evaluation(comm: "MPI.Intracomm", images: int, width: float, conv: str) -> dict[str, Any]:
    """Forward passes as evaluation makes them, each rank on its part of the images."""
    net = vgg16(width=width, dropout=0, conv=conv)
    params = np.empty(net.parameter_count, np.float32)
    initialise(net, params, seed=0)
    net.bind(params, params)
    pixels = _random_samples(comm.rank, len(hosted(images, comm.size, comm.rank))).pixels
    barrier(comm)
    first_step = time.time()
    net.forward(normalise(pixels[:BATCH], MEAN, STD))
    barrier(comm)
    start = time.perf_counter()
    for first in range(0, len(pixels), BATCH):
        net.forward(normalise(pixels[first : first + BATCH], MEAN, STD))
    barrier(comm)
    elapsed = time.perf_counter() - start
    return dict(
        images_per_s=images / elapsed,
        first_step=first_step,
        parameters=net.parameter_count,
        flops=network_flops(net)[0],
    )


def exchange(
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
    ways: dict[str, _Plain] = {kind: _Routed(comm, pattern, kind) for kind in kinds}
    ways["mpi"] = _Plain(comm, pattern)
    seconds: dict[str, list[float]] = {kind: [] for kind in ways}
    adding = min(cores, comm.size)
    numbers = max(1, stream // (3 * 4 * adding))
    arrays = np.ones((3, numbers if comm.rank < adding else 0), np.float32)
    bandwidth = []
    for turn in range(repeat + 1):
        barrier(comm)
        rates = np.zeros(comm.size)
        if comm.rank < adding:
            rates[comm.rank] = arrays.nbytes * _rate(0, np.add, *arrays)
        allreduce_sum(comm, rates)
        spent = {kind: way.go(turn) for kind, way in ways.items()}
        if turn:  # the first is to warm up
            bandwidth.append(float(rates.sum()))
            for kind, value in spent.items():
                seconds[kind].append(value)
    for way in ways.values():
        way.close()
    return dict(seconds=seconds, bandwidth=bandwidth)


class _Plain:
    """MPI's own allreduce, of vectors whose sum is known."""

    def __init__(self, comm: "MPI.Intracomm", pattern: np.ndarray) -> None:
        self.comm, self.pattern = comm, pattern
        self.vector = self._vector()

    def go(self, turn: int) -> float:
        """Sum the ranks' vectors of this turn, and see that it is right; the seconds it took."""
        ranks, turn = self.comm.size, turn % 8  # small numbers, whose sums are exact
        np.multiply(self.pattern, np.float32(self.comm.rank + turn), out=self.vector)
        seconds = self._sum()
        expected = self.pattern * np.float32(ranks * (ranks - 1) // 2 + ranks * turn)
        wrong = np.array([not np.array_equal(self.result(), expected)], "i8")
        if allreduce_sum(self.comm, wrong)[0]:
            raise RuntimeError(f"{type(self).__name__}: the sum is wrong")
        return seconds

    def result(self) -> np.ndarray:
        """Where the sum lies in the end."""
        return self.vector

    def close(self) -> None:
        """Give back what is shared."""

    def _vector(self) -> np.ndarray:
        return np.empty_like(self.pattern)

    def _sum(self) -> float:
        from mpi4py import MPI

        return self._slowest(lambda: self.comm.Allreduce(MPI.IN_PLACE, self.vector))

    def _slowest(self, work: Callable[[], object]) -> float:
        """Start some work on all ranks at once; the seconds of the one that takes longest."""
        barrier(self.comm)
        start = time.perf_counter()
        work()
        seconds = np.zeros(self.comm.size)
        seconds[self.comm.rank] = time.perf_counter() - start
        return float(allreduce_sum(self.comm, seconds).max())


class _Routed(_Plain):
    """One of the project's routes: reduce, and share without an update in between."""

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
        # Where the optimizer comes in; not counted here.
        for lo, hi in route.owned:
            route.params[lo:hi] = route.total[lo:hi]
        return seconds + self._slowest(route.all_gather)

    def _reduce(self) -> None:
        self.route.add(self.comm.rank)
        self.route.reduce_scatter()


def memory(comm: "MPI.Intracomm", shards: int, **options: Any) -> dict[str, Any]:
    """Memory after each part of a training run has come to be, in bytes.

    For each part what a rank holds (`rank`, the largest) and what all ranks hold (`all`), where
    pages that several share count once.
    """
    stages: dict[str, dict[str, int]] = {"interpreter and libraries": _held(comm)}
    trainer = _trainer(comm, shards, options)
    stages["parameters and images"] = _held(comm)
    route = trainer.route
    # As a step does it, so that all vectors are touched; those of a micro-batch that has been
    # added to its neighbour's are used again.
    for shard in route.local_shards:
        route.gradient()[:] = 0
        route.add(shard)
    route.reduce_scatter()
    stages["gradients"] = _held(comm)
    for lo, hi in route.owned:
        for vector in route.state.values():
            vector[lo:hi] = 0
    stages["optimizer state"] = _held(comm)
    before = np.zeros(comm.size, np.int64)
    before[comm.rank] = _private()
    with np.errstate(all="ignore"):
        for _ in range(2):
            trainer.train_step()
    peak, shared = machine.memory()
    last = np.zeros((2, comm.size), np.int64)
    last[:, comm.rank] = peak, peak - shared - before[comm.rank]
    peaks, more = allreduce_sum(comm, last)
    stages["a step, at its peak"] = dict(
        rank=int(peaks.max()), all=stages["optimizer state"]["all"] + int(more.sum())
    )
    reported = peak_memory(comm, trainer.route)
    result = dict(
        stages=stages,
        route=route.kind,
        reported=[round(gib * 2**30) for gib in reported],
        alone={
            "one copy of the parameters": 4 * trainer.net.parameter_count,
            "optimizer state of all ranks": 4 * trainer.net.parameter_count * len(route.state),
        },
    )
    route.close()
    return result


def _held(comm: "MPI.Intracomm") -> dict[str, int]:
    """Bytes that the largest rank holds now, and all ranks, each page of memory once."""
    barrier(comm)
    held = np.zeros((2, comm.size), np.int64)
    held[:, comm.rank] = _proc("status", "VmRSS"), _proc("smaps_rollup", "Pss")
    ranks, parts = allreduce_sum(comm, held)
    barrier(comm)  # a rank that went on would change what others share with it
    return dict(rank=int(ranks.max()), all=int(parts.sum()))


def _private() -> int:
    """Bytes that this process holds now and shares with nobody."""
    return _proc("status", "VmRSS") - _proc("status", "RssShmem")


def _proc(file: str, field: str) -> int:
    """A number of bytes that Linux knows of this process."""
    try:
        with open(f"/proc/self/{file}") as lines:  # noqa: PTH123
            return next(int(s.split()[1]) << 10 for s in lines if s.startswith(f"{field}:"))
    except (OSError, StopIteration) as error:
        raise UserError(
            f"memory by part is read from Linux's /proc/self/{file}: {error}"
        ) from error


def main(argv: Sequence[str], comm: "MPI.Intracomm") -> int:
    """Do one kind of work and print its result."""
    work: dict[str, Callable[..., dict[str, Any]]] = dict(
        products=products,
        layers=layers,
        step=step,
        evaluation=evaluation,
        exchange=exchange,
        audit=audit,
        memory=memory,
    )
    machine.settle(1)
    if argv[0] == "machine":
        print(json.dumps(describe_machine()))
    else:
        print(json.dumps(work[argv[0]](comm, **json.loads(argv[1]))))
    return 0


if __name__ == "__main__":
    run_command("dist_vgg.bench.workers", main)
