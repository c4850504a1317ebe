"""Threads that work for the requests of a server, on what several of them ask for at a time."""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Threads that take what waits, each at most `at_once` items, and do it as one batch.

    `work` returns a result for each item. The threads end with the process and keep it from
    nothing. How many items wait is limited by who asks, see app.py.
    """

    def __init__(
        self, work: Callable[[Sequence[Item]], Sequence[Result]], threads: int, at_once: int
    ) -> None:
        self._work = work
        self._at_once = at_once
        self._waiting: queue.SimpleQueue[tuple[Item, Future[Result]]] = queue.SimpleQueue()
        for _ in range(threads):
            threading.Thread(target=self._run, daemon=True).start()

    async def result(self, item: Item) -> Result:
        """What `work` makes of an item; raises what it raises."""
        future: Future[Result] = Future()
        self._waiting.put((item, future))
        return await asyncio.wrap_future(future)

    def _run(self) -> None:
        while True:
            batch = [self._waiting.get()]
            with suppress(queue.Empty):
                while len(batch) < self._at_once:
                    batch.append(self._waiting.get_nowait())
            self._do(batch)
            batch.clear()  # while nothing waits, nothing of it is kept

    def _do(self, batch: Sequence[tuple[Item, "Future[Result]"]]) -> None:
        # Nobody waits any more for what has been cancelled.
        wanted = [each for each in batch if each[1].set_running_or_notify_cancel()]
        if not wanted:
            return
        try:
            results = self._work([item for item, _ in wanted])
        except BaseException as error:
            for _, future in wanted:
                future.set_exception(error)
        else:
            for (_, future), result in zip(wanted, results, strict=True):
                future.set_result(result)
