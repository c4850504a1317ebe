"""Several readings of one quantity, shown as their median between the lowest and the highest."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Readings:
    """All readings of a quantity, in the order in which they were taken."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> "Readings":
        """Take any iterable of numbers."""
        return cls(tuple(float(value) for value in values))

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    def __str__(self) -> str:
        return between(self.median, self.low, self.high)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dict(median=self.median, low=self.low, high=self.high, values=self.values)


def between(middle: float, low: float, high: float) -> str:
    """A number with about three digits, and what it lies between with as many decimals."""
    size = math.floor(math.log10(abs(middle))) if middle else 0
    decimals = min(4, max(0, 2 - size))
    return "{} ({}–{})".format(*(f"{value:,.{decimals}f}" for value in (middle, low, high)))


def per_second(seconds: float, operation: Callable[..., object], *arrays: np.ndarray) -> float:
    """How often a second an operation runs on some arrays, over at least so many seconds."""
    start, count, elapsed = time.perf_counter(), 0, 0.0
    while not count or elapsed < seconds:
        operation(*arrays)
        count += 1
        elapsed = time.perf_counter() - start
    return count / elapsed
