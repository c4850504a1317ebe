"""The overlap of communication and computation: buckets travel while a rank computes.

Buckets of gradients that are reduced as soon as they are finished are PyTorch's way, too (Li et
al., "PyTorch Distributed", VLDB 2020). Here each bucket is a slice of the one flat vector:
backward finishes them from its end to its start, and forward needs the updated parameters from its
start to its end.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from dist_vgg.exchange.partition import Slice
from dist_vgg.mpi.collectives import waiting


class Overlap:
    """A thread, begun anew in each step, that deals with buckets in their order, each once it may.

    It waits for MPI as all of this project does, asleep between looks (see `collectives.wait`),
    and so leaves the core to the computation. Without a thread nothing would move: MPI libraries
    work on requests only while they are called. The computation must not call MPI meanwhile.
    """

    def __init__(self, buckets: Sequence[Slice], deal: Callable[[Slice], None]) -> None:
        self.buckets, self._deal = buckets, deal
        self.hidden_seconds = 0.0  # of dealing while nobody waited for it, in all steps so far
        self._news = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def is_going_on(self) -> bool:
        """Whether it has begun and not ended."""
        return self._thread is not None

    def begin(self, start: float) -> None:
        """Deal with the buckets that lie behind `start`; `finished` will say with which more."""
        self._left, self._from = list(self.buckets), start
        self._error: BaseException | None = None
        self._work: list[tuple[float, float]] = []  # when each bucket's began and ended
        self._waits: list[tuple[float, float]] = []  # when the computation waited for it
        # A daemon, so that a rank whose computation fails can end.
        self._thread = threading.Thread(target=self._run, name="exchange", daemon=True)
        self._thread.start()

    def finished(self, lo: int) -> None:
        """Say that all from `lo` on is finished."""
        if not self._thread:
            return self.begin(lo)
        with self._news:
            self._from = lo
            self._news.notify_all()

    def wait_for(self, hi: int) -> None:
        """Wait for the buckets that begin ahead of `hi`; raise here what went wrong with them."""
        if not self._thread:
            return

        def is_over() -> bool:
            return self._error is not None or all(lo >= hi for lo, _ in self._left)

        if not is_over():
            with self._waiting(), self._news:
                self._news.wait_for(is_over)
        if self._error:
            raise self._error

    def end(self) -> None:
        """Wait for all buckets; raise here what went wrong with them."""
        if not self._thread:
            return
        with self._waiting():
            self._thread.join()
        self._thread = None
        if self._error:
            raise self._error
        self.hidden_seconds += sum(end - start for start, end in self._work) - sum(
            max(0.0, min(end, until) - max(start, since))
            for start, end in self._work
            for since, until in self._waits
        )

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """Note and announce that the block waits for the thread."""
        start = time.perf_counter()
        with waiting():
            yield
        self._waits.append((start, time.perf_counter()))

    def _run(self) -> None:
        try:
            while self._left:
                with self._news:
                    self._news.wait_for(lambda: self._from <= self._left[0][0])
                start = time.perf_counter()
                self._deal(self._left[0])
                self._work.append((start, time.perf_counter()))
                with self._news:
                    self._left.pop(0)
                    self._news.notify_all()
        except BaseException as error:  # handed to the thread that waits
            with self._news:
                self._error = error
                self._news.notify_all()
