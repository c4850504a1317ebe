"""The overlap of communication and computation: buckets travel while backward goes on.

Buckets of gradients that are reduced as soon as they are finished are PyTorch's way, too (Li et
al., "PyTorch Distributed", VLDB 2020). Here each bucket is a slice of the one flat vector, and
backward finishes them from its end to its start.
"""

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from dist_vgg.exchange.partition import Slice
from dist_vgg.mpi.collectives import waiting


class OverlapThread:
    """A thread that deals with each bucket of a gradient once it is finished, the last first.

    It waits for MPI as all of this project does, asleep between looks (see `collectives.wait`),
    and so leaves the core to the computation. Without a thread nothing would move: MPI libraries
    work on requests only while they are called.
    """

    def __init__(self, buckets: Sequence[Slice], deal: Callable[[Slice], None]) -> None:
        self._buckets, self._deal = buckets, deal
        self._from: float = np.inf  # where the finished part begins
        self._news = threading.Condition()
        self._error: BaseException | None = None
        self._work: list[tuple[float, float]] = []  # when each bucket's began and ended
        self._joins: float = np.inf  # when the computation came to wait
        # A daemon, so that a rank whose computation fails can end.
        self._thread = threading.Thread(target=self._run, name="exchange", daemon=True)
        self._thread.start()

    def finished(self, lo: int) -> None:
        """Say that all from `lo` on is finished."""
        with self._news:
            self._from = lo
            self._news.notify()

    @property
    def hidden_seconds(self) -> float:
        """How long the thread has dealt with buckets by the time of the first `join`."""
        return sum(max(0.0, min(end, self._joins) - start) for start, end in self._work)

    def join(self) -> None:
        """Wait for all buckets; raise here what went wrong in the thread."""
        self._joins = min(self._joins, time.perf_counter())
        with waiting():
            self._thread.join()
        if self._error:
            raise self._error

    def _run(self) -> None:
        try:
            for bucket in reversed(self._buckets):
                with self._news:
                    while self._from > bucket[0]:
                        self._news.wait()
                start = time.perf_counter()
                self._deal(bucket)
                self._work.append((start, time.perf_counter()))
        except BaseException as error:  # handed to the thread that joins
            self._error = error
