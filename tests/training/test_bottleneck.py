"""What a run says has limited it."""

import numpy as np
import pytest

from dist_vgg.training.bottleneck import bottleneck
from dist_vgg.training.rank_times import COLUMNS, RankTimes, told_apart

TWO, ONE = ["node1", "node2"], ["node1", "node1"]


def steps(*rows: dict[str, float], count: int = 5) -> list[RankTimes]:
    """So many equal steps of ranks with these figures; 32 images where none are given."""
    table = np.array([[row.get(name, 32 * (name == "images")) for name in COLUMNS] for row in rows])
    return [RankTimes(step + 1, range(len(rows)), table) for step in range(count)]


@pytest.mark.parametrize(
    ("rows", "hosts", "words"),
    [
        ([dict(computing=0.9, update=0.1)], ONE[:1], "computing, 90% of a step"),
        ([dict(computing=0.7, update=0.3)], ONE[:1], "update, 30% of a step: larger micro-batches"),
        (
            [dict(computing=0.5, exposed=0.5), dict(computing=0.5, exposed=0.5)],
            TWO,
            "exposed exchange, 50% of a step: a faster link, or larger micro-batches",
        ),
        (
            [dict(computing=0.5, exposed=0.5), dict(computing=0.5, exposed=0.5)],
            ONE,
            "exposed exchange, 50% of a step: larger micro-batches",
        ),
        (
            [dict(computing=0.8, waiting=0.2), dict(computing=1.0)],
            TWO,
            "rank 1 on node2: it takes 1.25 times as long for an image as the others, which waited "
            "20% of the time",
        ),
        (  # What hardly any rank waits for is not worth a word.
            [dict(computing=0.8, waiting=0.02, exposed=0.18), dict(computing=1.0)],
            TWO,
            "computing, 90% of a step",
        ),
        (  # Within the noise of a machine.
            [dict(computing=0.9, waiting=0.1), dict(computing=1.0)],
            TWO,
            "computing, 95% of a step",
        ),
        (
            [
                dict(computing=0.5, waiting=0.5), dict(computing=0.5, waiting=0.5),
                dict(computing=1.0), dict(computing=0.9, waiting=0.1),
            ],
            [*ONE, "node2", "node2"],
            "the ranks on node2: they take up to 2.00 times as long for an image as the others, "
            "which waited 50% of the time",
        ),
        (
            [dict(computing=0.9, images=48), dict(computing=0.6, waiting=0.3)],
            TWO,
            "uneven shards: rank 0 has more images than the others, which waited 33% of the time; "
            "let the number of ranks divide the shards",
        ),
        (
            [dict(computing=0.6, waiting=0.4), dict(computing=0.6, waiting=0.4)],
            TWO,
            "waiting, 40% of a step: ranks are late by turns; look for other work on these "
            "machines",
        ),
    ],
)  # fmt: skip
def test_what_limits(rows: list[dict[str, float]], hosts: list[str], words: str) -> None:
    assert bottleneck(steps(*rows), hosts) == words


def test_a_slow_start_says_nothing_of_the_rest() -> None:
    start = steps(dict(computing=0.1, waiting=9), dict(computing=9), count=1)
    rest = steps(dict(computing=0.1), dict(computing=0.1))
    assert bottleneck(start + rest, TWO) == "computing, 100% of a step"
    assert bottleneck([], TWO) == ""


def test_ranks_that_take_turns_in_the_records_are_all_seen() -> None:
    seen = []
    for step, ranks in enumerate([range(0, 4, 2), range(1, 4, 2)] * 3):
        rows = [dict(computing=1 if r == 3 else 0.5, waiting=0 if r == 3 else 0.5) for r in ranks]
        (one,) = steps(*rows, count=1)
        seen.append(RankTimes(step + 1, ranks, one.table))
    assert bottleneck(seen, ["a", "b", "c", "d"]).startswith("rank 3 on d: it takes 2.00 times")


def test_what_waits_for_a_slower_rank_is_no_exchange() -> None:
    """Rank 0 is done after 1 s and waits for 3, rank 1 after 2.5 s and waits for 1.5."""
    rows = np.zeros((2, 1 + len(COLUMNS)))
    rows[:, 0] = 1.0, 2.5
    rows[:, 1 + COLUMNS.index("waiting")] = 3.0, 1.5
    rows[:, 1 + COLUMNS.index("exposed")] = 0.25, 0.25
    found = told_apart(rows, slowest=2.5)
    assert found[:, COLUMNS.index("waiting")].tolist() == [1.5, 0]
    assert found[:, COLUMNS.index("exposed")].tolist() == [1.75, 1.75]
