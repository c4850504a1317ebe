"""Figures of every rank reach all ranks; under mpirun with pytest-mpi."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from exchanges import comm

from dist_vgg.runs.clock import SPANS
from dist_vgg.training import rank_times
from dist_vgg.training.rank_times import COLUMNS, PARTS, RankClock

pytestmark = pytest.mark.mpi


@pytest.mark.parametrize("sample", [1, 2, 256])
def test_a_step_s_figures_travel_with_the_next(
    sample: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_times, "SAMPLE_RANKS", sample)
    clock, me, seen = RankClock(comm), comm.rank, set()
    clock.finish()
    assert clock.last is None  # nothing has been noted
    for step in range(1, 1 + comm.size):
        clock.waits(2.0 + me)  # of which nothing is waiting
        spent = dict.fromkeys(SPANS, 0.0) | {"reading": 1.0, "forward conv": 1.0 + me}
        spent["waiting"] = comm.size - me  # for the last rank, and a second of exchange
        counters = SimpleNamespace(hidden_seconds=0.5 * step, sent_bytes=10 * step * me)
        clock.note(step, spent, 4 + me, cast(Any, counters))
        clock.finish()
        found = clock.last
        assert found is not None and found.step == step
        seen |= set(found.ranks)
        assert len(found.ranks) <= sample
        record = found.record()
        for k, rank in enumerate(found.ranks):
            row = {name: record[name][k] for name in COLUMNS}
            waiting = comm.size - 1 - rank
            assert row == dict.fromkeys(PARTS, 0) | dict(
                reading=1, computing=1 + rank, waiting=waiting, exposed=1,
                hidden=0.5, sent_bytes=10 * rank, images=4 + rank,
            )  # fmt: skip
        if sample < comm.size:
            last = comm.size - 1
            assert (record["most"]["computing"], record["least"]["computing"]) == (1 + last, 1)
            assert (record["most"]["images"], record["least"]["sent_bytes"]) == (4 + last, 0)
        else:
            assert "most" not in record
    assert seen == set(range(comm.size))
