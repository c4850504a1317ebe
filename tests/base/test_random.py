"""Random streams: named, reproducible, apart from each other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dist_vgg.base.random import generator, philox

words = st.integers(0, 2**64 - 1)


def draw(seed: int, purpose: str, *place: int) -> list[int]:
    return philox(seed, purpose, *place).random_raw(8).tolist()


@given(words, st.text(max_size=20), st.lists(words, max_size=3))
def test_a_name_gives_the_same_numbers_each_time(seed: int, purpose: str, place: list[int]) -> None:
    assert draw(seed, purpose, *place) == draw(seed, purpose, *place)


@pytest.mark.parametrize(
    "other",
    [(1, "dropout", 5, 6, 7), (0, "shuffle", 5, 6, 7)]
    + [(0, "dropout", *place) for place in [(4, 6, 7), (5, 7, 7), (5, 6, 8), (5, 7, 6), (6,)]],
)
def test_another_name_gives_other_numbers(other: tuple) -> None:
    assert not set(draw(0, "dropout", 5, 6, 7)) & set(draw(*other))


def test_neighbouring_places_do_not_overlap_however_much_is_drawn() -> None:
    # Random numbers of one place must never run into those of the next.
    first = set(philox(0, "dropout", 3).random_raw(100_000).tolist())
    second = set(philox(0, "dropout", 4).random_raw(100_000).tolist())
    assert len(first) == len(second) == 100_000
    assert not first & second


def test_a_place_left_out_is_zero() -> None:
    assert draw(0, "dropout", 5) == draw(0, "dropout", 5, 0, 0)


def test_four_places_are_too_many() -> None:
    with pytest.raises(ValueError, match="at most 3"):
        philox(0, "dropout", 1, 2, 3, 4)


def test_the_numbers_never_change() -> None:
    # Runs are repeated from their seed: a changed stream makes every old run unrepeatable.
    assert draw(1, "init/conv1_1", 2)[:2] == [16820298468046025106, 9563804552608024105]
    assert generator(0, "shuffle/train").integers(0, 1000, 5).tolist() == [866, 126, 641, 210, 763]


def test_generator_draws_from_the_same_stream() -> None:
    drawn = generator(3, "shuffle", 1).random(4)
    np.testing.assert_array_equal(drawn, np.random.Generator(philox(3, "shuffle", 1)).random(4))
