"""How chaos judges a trial, and what it tells of it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chaos_plans import plan_of

from dist_vgg.chaos import report
from dist_vgg.chaos.faults import ANY_STATUS, KINDS
from dist_vgg.chaos.outcome import Outcome, recovery
from dist_vgg.chaos.plan import Plan
from dist_vgg.chaos.report import Result
from dist_vgg.chaos.verdict import complaints

SHA256 = "ab" * 32
HOST = "node-7.cluster"  # not this machine


def good(plan: Plan) -> Outcome:
    """What is expected of a plan."""
    fault = plan.fault
    said = f"rank {plan.rank} on {HOST}, pid 7: step 3, bucket 0, sample 5 of shard 1"
    said += f"\nno answer from {HOST}"
    said += "\nstopped by SIGTERM after step; stopped by Ctrl-C after step"
    said += "\nstopped by SIGUSR1 after step; No space left; Input/output error; Read-only"
    said += f"\ncheckpoint x is damaged; shard d/train-0000{int(8 * plan.place)}-of-00008.h5"
    lost = {"nothing": [], ANY_STATUS: [137]}.get(str(fault.lost), [fault.lost])
    return Outcome(
        struck=dict(time=10.0, moment=plan.moment, rank=plan.rank, host=HOST, step=4, done=3),
        statuses=list(fault.statuses),
        lost=[int(status) for status in lost],
        output=said,
        sha256=SHA256 if fault.survives else "",
    )


@pytest.mark.parametrize("kind", KINDS)
def test_verdicts(kind: str) -> None:
    plan = plan_of(kind)
    fault = plan.fault
    assert complaints(plan, good(plan), SHA256) == []
    statuses = [*fault.statuses[:-1], 1]
    wrong: list[tuple[dict[str, Any], str]] = [
        (dict(statuses=statuses), f"instead of {', then '.join(map(str, fault.statuses))}"),
        (dict(statuses=[], hung=True), "it hung"),
        (dict(sha256="cd" * 32), "cdcdcd" if fault.survives else "trained to the end"),
        (dict(output=good(plan).output + "\nTraceback (most recent call last):"), "a traceback"),
        (dict(orphans=["7 python"]), "processes were left: 7 python"),
        (dict(memory=["/dev/shm/x"]), "files in shared memory were left: /dev/shm/x"),
        (dict(partials=["a", "b"]), "files half written were left: a; b"),
        (dict(lost=[77, 78]), "ranks were lost"),
    ]
    if fault.survives:
        wrong += [(dict(sha256=""), "parameters missing")]
    if fault.action:
        wrong += [(dict(struck=None), "the fault never struck")]
    if fault.lost != "nothing":
        wrong += [(dict(lost=[]), "ranks were lost")]
    if kind.startswith(("kill", "stop", "sig")):
        wrong += [(dict(steps_lost=2), "2 steps were lost")]
    else:
        assert complaints(plan, replace(good(plan), steps_lost=2), SHA256) == []
    if fault.of_host:
        wrong += [(dict(recovery=31.0), "31 s until the next step, not 30")]
    if fault.words:
        wrong += [(dict(output="nothing"), "the output has nothing like")]
    for change, words in wrong:
        found = complaints(plan, replace(good(plan), **change), SHA256)
        assert any(words in text for text in found), (change, found)


def test_another_rank_is_not_the_one() -> None:
    plan = plan_of("stop", ranks=8, rank=1)
    other = good(plan).output.replace("rank 1 on", "rank 11 on")
    assert complaints(plan, replace(good(plan), output=other), SHA256) == [
        "the output has nothing like 'rank 1 on node\\\\-7\\\\.cluster\\\\b'"
    ]


def test_what_a_strike_costs() -> None:
    def begin(time: float, step: int, rank: int = 0) -> dict[str, Any]:
        return dict(what="begin", time=time, step=step, rank=rank)

    def stepped(time: float) -> dict[str, Any]:
        return dict(what="stepped", time=time)

    struck = dict(time=10.0, done=7)
    first = [begin(1, 0), begin(1.1, 0, 1), stepped(2)]
    assert recovery(struck, [*first, begin(12.9, 4, 1), begin(13, 4), stepped(14)]) == (3, 4)
    assert recovery(struck, first) == (None, None)
    assert recovery(struck, [*first, begin(13, 8)]) == (0, None)
    assert recovery(None, first) == (None, None)
    # Struck in the second step, before rank 0 had noted the first.
    late = [begin(1, 0), stepped(10.1), begin(13, 0), stepped(14)]
    assert recovery(dict(time=10.0, done=1), late) == (1, 4)


def test_table_and_failures() -> None:
    def result(number: int, kind: str, wrong: str = "", **values: Any) -> Result:
        plan = plan_of(kind, trial=number)
        outcome = replace(good(plan), **values)
        return Result(plan, outcome, [wrong] if wrong else [], f"again {number}", Path("w"))

    results = [
        result(0, "flip-shard"),
        result(1, "kill-forward", steps_lost=3, recovery=0.52, seconds=1.26),
        result(2, "kill-forward", steps_lost=1, recovery=2.0),
        result(3, "kill-forward", "status 1 instead of 0", memory=["/dev/shm/a"]),
        result(4, "flip-shard", "it trained to the end", partials=["x", "y"]),
    ]
    assert [line.split("  ") for line in report.results_table(results).splitlines()] == [
        line.split("  ")
        for line in (
            "kind of fault  trials  survived  stopped    steps lost      s to recover",
            "kill-forward        3    2 of 3        –  2, at most 3  1.3, at most 2.0",
            "flip-shard          2         –   1 of 2             –                 –",
            "all                 5    2 of 3   1 of 2  2, at most 3  1.3, at most 2.0",
        )
    ]
    assert report.failures(results).splitlines() == [
        "trial 3, kill-forward: status 1 instead of 0",
        "  again   again 3",
        "  output  w/output.txt",
        "trial 4, flip-shard: it trained to the end",
        "  again   again 4",
        "  output  w/output.txt",
    ]
    line = results[1].line()
    assert "kill-forward" in line
    assert f"rank {results[1].plan.rank}, forward of step 4" in line
    assert line.endswith("1.3 s  survived, 3 steps lost")
    assert results[3].line().endswith("FAILED: status 1 instead of 0")
    assert results[0].line().endswith("stopped")
    as_json = json.loads(json.dumps(results[3].as_dict()))
    assert as_json["complaints"] == ["status 1 instead of 0"]
    assert "output" not in as_json
