"""Where the time of every rank goes, step by step; a step's figures travel with the next one's sum.

A rank that waits can't tell from its own clock whether others still compute or gradients are on
their way. All ranks begin a step together, so the seconds that each takes until it waits tell:
until the slowest comes it is waiting, and from then on it is exchange.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_vgg.mpi.collectives import allreduce_max, allreduce_sum

if TYPE_CHECKING:
    from mpi4py import MPI

    from dist_vgg.exchange.protocol import Exchange

# The seconds of a step on a rank are the sum of these; "exposed" is exchange that hides behind
# nothing.
PARTS = ("reading", "computing", "waiting", "exposed", "update", "audit")
SECONDS = (*PARTS, "hidden")
COLUMNS = (*SECONDS, "sent_bytes", "images")
WHERE = {name: column for column, name in enumerate(COLUMNS)}

SAMPLE_RANKS = 256  # of which a step's record has figures; where there are more, in turns
WINDOW_STEPS = 500  # of which the end of a run says what limited them


@dataclass(frozen=True)
class RankTimes:
    """One step's figures of some ranks: `table` is (ranks, COLUMNS), float64."""

    step: int  # counted from 1
    ranks: range
    table: np.ndarray
    most: np.ndarray | None = None  # (COLUMNS,) of all ranks, where the table has only some
    least: np.ndarray | None = None

    def record(self) -> dict[str, Any]:
        """The step's line in metrics.jsonl, a list for each column."""
        record: dict[str, Any] = dict(step=self.step, ranks=list(self.ranks))
        record |= _columns(self.table.T)
        for name, row in (("most", self.most), ("least", self.least)):
            if row is not None:
                record[name] = _columns(row)
        return record


class RankClock:
    """Keeps this rank's figures until the next step's allreduce takes them to all ranks."""

    def __init__(self, comm: "MPI.Intracomm") -> None:
        self.last: RankTimes | None = None  # of the step before the one just done
        self.window: deque[RankTimes] = deque(maxlen=WINDOW_STEPS)
        self._comm, self._step, self._until_wait = comm, 0, 0.0
        self._row = np.zeros(1 + len(COLUMNS))  # seconds until it waited, then the columns
        self._seen = np.zeros(2)  # totals of the exchange's counters

    def waits(self, seconds: float) -> None:
        """Note that so many seconds of the step are over, and this rank's gradients are done."""
        self._until_wait = seconds

    def note(self, step: int, spent: Mapping[str, float], images: int, route: "Exchange") -> None:
        """Note a step that is done: the seconds of its spans, and this rank's images in it."""
        computing = sum(v for name, v in spent.items() if name.startswith(("forward", "backward")))
        seen = np.array([route.hidden_seconds, route.sent_bytes])
        names = ("waiting", "exchange", "update", "audit")
        self._row[:] = [
            self._until_wait, spent["reading"], computing, *(spent[name] for name in names),
            *(seen - self._seen), images,
        ]  # fmt: skip
        self._step, self._seen = step, seen

    def contribution(self) -> np.ndarray:
        """This rank's row of the table that the ranks' sum will be; flat, zeros elsewhere."""
        ranks = self._sample()
        table = np.zeros((len(ranks), len(self._row)))
        if self._step and self._comm.rank in ranks:
            table[ranks.index(self._comm.rank)] = self._row
        return table.reshape(-1)

    def take(self, summed: np.ndarray) -> None:
        """Take the sum of all ranks' contributions; where all have begun anew there is none."""
        self.last = None
        if not self._step:
            return
        ranks, table = self._sample(), summed.reshape(-1, len(self._row))
        slowest, most, least = table[:, 0].max(), None, None
        if len(ranks) < self._comm.size:
            ends = allreduce_max(self._comm, np.concatenate([self._row, -self._row]))
            most, least = ends[: len(self._row)], -ends[len(self._row) :]
            slowest = most[0]
            most, least = most[1:], least[1:]
        self.last = RankTimes(self._step, ranks, told_apart(table, slowest), most, least)
        self.window.append(self.last)
        self._step = 0

    def finish(self) -> None:
        """Exchange the figures of the last step, which no other follows; collective."""
        self.take(allreduce_sum(self._comm, self.contribution()))

    def _sample(self) -> range:
        """The ranks whose figures of a step are exchanged."""
        stride = -(-self._comm.size // SAMPLE_RANKS)
        return range(self._step % stride, self._comm.size, stride)


def told_apart(table: np.ndarray, slowest: float) -> np.ndarray:
    """The columns, from rows whose wait may hold an exchange: (ranks, 1 + columns) to columns.

    The slowest rank was done so many seconds after the step began.
    """
    columns = table[:, 1:].copy()
    waiting, exposed = WHERE["waiting"], WHERE["exposed"]
    waited = columns[:, waiting].copy()
    columns[:, waiting] = np.minimum(waited, slowest - table[:, 0])
    columns[:, exposed] += waited - columns[:, waiting]
    return columns


def _columns(table: np.ndarray) -> dict[str, Any]:
    """What each column has, by its name: seconds to a microsecond, and whole numbers."""
    rounded = table.round(6)
    return {
        name: (values if name in SECONDS else values.astype(int)).tolist()
        for name, values in zip(COLUMNS, rounded, strict=True)
    }
