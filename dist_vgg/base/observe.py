"""Events: whoever announces one need not know who observes it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Event:
    """Something that happens again and again. Call it to announce that it does."""

    def __init__(self) -> None:
        self._observers: list[Callable[..., object]] = []

    @contextmanager
    def observe(self, observer: Callable[..., object]) -> Iterator[None]:
        """During the block, call `observer` with what each announcement says."""
        self._observers.append(observer)
        try:
            yield
        finally:
            self._observers.remove(observer)

    def __call__(self, *values: object) -> None:
        """Announce it."""
        for observer in self._observers:
            observer(*values)
