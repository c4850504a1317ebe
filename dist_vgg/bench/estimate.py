"""The median of what was measured, and an interval that holds the true one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from dist_vgg.bench.readings import between

CONFIDENCE = 0.95  # asked of an interval, where there are readings enough (six)


@dataclass(frozen=True)
class Estimate:
    """A median, or what follows from medians, and its confidence interval."""

    median: float
    low: float
    high: float
    confidence: float  # that the true value lies from `low` to `high`

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        """Estimate the median from independent readings, whatever their distribution.

        The j-th smallest and the j-th largest of n readings enclose the true median unless fewer
        than j lie on one side of it, as in n throws of a coin. Taken is the largest j that leaves
        `CONFIDENCE`; with fewer than six readings there is none, so the interval is from the lowest
        to the highest, and has less (David and Nagaraja, Order Statistics, section 7.1).
        """
        ordered, count = sorted(values), len(values)
        most = max(1, (count + 1) // 2)
        enough = [j for j in range(1, most + 1) if coverage(count, j) >= CONFIDENCE]
        j = max(enough, default=1)
        return cls(median(ordered), ordered[j - 1], ordered[-j], coverage(count, j))

    def __str__(self) -> str:
        return between(self.median, self.low, self.high)

    @property
    def percent(self) -> str:
        """The same in per cent."""
        return f"{self.median:.0%} ({100 * self.low:.0f}–{self.high:.0%})"


def coverage(count: int, j: int) -> float:
    """The probability that the j-th smallest and j-th largest of `count` enclose the median."""
    return 1 - sum(math.comb(count, i) for i in range(j)) / 2 ** (count - 1)


def rate(amount: float, seconds: Estimate) -> Estimate:
    """So much in so many seconds, as an amount a second."""
    middle, low, high = (amount / value for value in (seconds.median, seconds.high, seconds.low))
    return Estimate(middle, low, high, seconds.confidence)


def ratio(one: Estimate, other: Estimate) -> Estimate:
    """One over the other, from the ends of both intervals.

    Either interval may miss, so the confidence is what both misses leave (Bonferroni's bound).
    """
    both = max(0.0, one.confidence + other.confidence - 1)
    return Estimate(one.median / other.median, one.low / other.high, one.high / other.low, both)
