"""A stopwatch that says where the time of a training step goes."""

import time
from collections.abc import Callable

KINDS = ("conv", "pool", "fc", "other")  # of layers
# The parts of a step. Where gradients travel between nodes during backward, "waiting" includes the
# wait for those still on their way. "exchange" is all adding of gradients, and bringing the new
# parameters to every replica. "audit" is looking for flipped bits where no other part does it in
# passing, and keeping the step in memory.
SPANS = (
    "reading",
    *(f"forward {kind}" for kind in KINDS),
    *(f"backward {kind}" for kind in KINDS),
    "waiting",
    "exchange",
    "update",
    "audit",
)


class Clock:
    """Assigns every moment of a step to one of `SPANS`."""

    def __init__(self) -> None:
        self.listener: Callable[[str], object] = lambda name: None  # called at every mark
        self._seconds = dict.fromkeys(SPANS, 0.0)
        self._last = time.perf_counter()

    def lap(self) -> dict[str, float]:
        """The seconds of each span up to the last mark; counting starts again from zero, now."""
        seconds, self._seconds = self._seconds, dict.fromkeys(SPANS, 0.0)
        self._last = time.perf_counter()
        return seconds

    @property
    def elapsed(self) -> float:
        """The seconds from the lap to the last mark."""
        return sum(self._seconds.values())

    def mark(self, name: str) -> None:
        """Count the time since the last mark, or lap, for a span."""
        now = time.perf_counter()
        self._seconds[name] += now - self._last
        self._last = now
        self.listener(name)
