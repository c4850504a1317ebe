"""Plans: what a trial draws is possible, and depends on the seed and its number alone."""

from collections import Counter
from typing import Any

import pytest

from dist_vgg.base.errors import UserError
from dist_vgg.chaos.faults import ALONE, FAULTS, HOST_FAULTS, IN_SAVING, TWO
from dist_vgg.chaos.faults import KINDS as ALL
from dist_vgg.chaos.plan import FULL, NARROW, choose_kinds, draw

KINDS = list(FAULTS)


def test_a_trial_depends_on_seed_and_number_alone() -> None:
    plans = [draw(5, k, KINDS, NARROW) for k in range(50)]
    assert [draw(5, k, KINDS, NARROW) for k in reversed(range(50))] == plans[::-1]
    assert [draw(6, k, KINDS, NARROW) for k in range(50)] != plans


@pytest.mark.parametrize("scale", [NARROW, FULL], ids=["narrow", "full"])
def test_everything_drawn_is_possible(scale: Any) -> None:
    moments = Counter()
    for k in range(40 * len(KINDS)):
        plan = draw(1, k, KINDS, scale)
        fault = plan.fault
        assert 0 <= plan.rank < plan.ranks <= 8
        assert 0 <= plan.other < plan.ranks
        assert (plan.other != plan.rank) == (fault.victim == TWO)
        assert plan.ranks == 1 or fault.victim != ALONE
        assert 0 <= plan.step < scale.steps
        assert plan.moment in fault.moments
        assert 0 <= plan.place < 1
        if plan.moment in IN_SAVING:
            assert plan.step % scale.every == 0 < plan.step
        moments[plan.kind, plan.moment] += 1
    wanted = {(fault.name, moment) for fault in FAULTS.values() for moment in fault.moments}
    assert set(moments) == wanted


def test_each_round_has_every_kind_once() -> None:
    kinds = [draw(2, k, KINDS, NARROW).kind for k in range(2 * len(KINDS))]
    first, second = kinds[: len(KINDS)], kinds[len(KINDS) :]
    assert sorted(first) == sorted(second) == sorted(KINDS)
    assert first != second


def test_most_ranks() -> None:
    assert {draw(0, k, ["slow"], NARROW, 3).ranks for k in range(50)} == {1, 2, 3}
    assert {draw(0, k, ["kill-two"], NARROW, 1).ranks for k in range(9)} == {2}


def test_kinds_by_name_and_family() -> None:
    assert choose_kinds("") == KINDS
    assert choose_kinds("slow,kill-two,slow") == ["slow", "kill-two"]
    assert choose_kinds("stop") == ["stop", "stop-first", "stop-alone"]
    assert choose_kinds("host", ALL) == list(HOST_FAULTS)
    with pytest.raises(UserError, match="--kinds has 'kil'; the kinds are kill-start-up, "):
        choose_kinds("kil")
