"""The thread that deals with buckets while backward goes on."""

import threading

import pytest

from dist_vgg.exchange.overlap import Overlap

BUCKETS = [(0, 10), (10, 20), (20, 25)]


def test_buckets_come_from_the_end_once_they_are_finished() -> None:
    dealt: list[tuple[int, int]] = []
    news = threading.Condition()

    def deal(bucket: tuple[int, int]) -> None:
        with news:
            dealt.append(bucket)
            news.notify()

    overlap = Overlap(BUCKETS[::-1], deal)
    overlap.finished(21)
    assert dealt == []
    for lo, count in ((20, 1), (11, 1), (3, 2)):
        overlap.finished(lo)
        with news:
            assert news.wait_for(lambda count=count: len(dealt) == count, timeout=10)  # type: ignore[misc]
    overlap.finished(0)
    overlap.end()
    assert dealt == BUCKETS[::-1]


def test_an_error_is_raised_by_join() -> None:
    def deal(bucket: tuple[int, int]) -> None:
        if bucket == (10, 20):
            raise RuntimeError("no network")

    overlap = Overlap(BUCKETS[::-1], deal)
    overlap.finished(0)
    with pytest.raises(RuntimeError, match="no network"):
        overlap.end()
