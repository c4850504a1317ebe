"""Chaos: what it draws, that each fault strikes at its moment, and how it judges."""

import json
import os
import re
import shutil
import signal
import time
from collections import Counter
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import launcher
import numpy as np
import pytest
from launcher import one_line

from dist_vgg.base.errors import UserError
from dist_vgg.chaos import __main__ as chaos
from dist_vgg.chaos import faulty, report, trial
from dist_vgg.chaos.faults import (
    ALONE,
    ANY_STATUS,
    FAULTS,
    FLUSH,
    FULL,
    GATHER,
    IN_SAVING,
    IN_STEP,
    NARROW,
    OPEN,
    REDUCED,
    RENAMED,
    SHARED,
    START_UP,
    TWO,
    WRITE,
    WRITTEN,
    Plan,
    choose_kinds,
    draw,
)
from dist_vgg.chaos.report import Result
from dist_vgg.chaos.trial import Outcome, complaints
from dist_vgg.runs.log import read_metrics

KINDS = list(FAULTS)
INSIDE = launcher.ROOT / "tests" / "inside_ranks"
SHA256 = "ab" * 32
HOST = "node-7.cluster"  # not this machine


def plan_of(kind: str, **changes: Any) -> Plan:
    return replace(draw(0, 0, [kind], NARROW), **changes)


# Drawing


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
    with pytest.raises(UserError, match="--kinds has 'kil'; the kinds are kill-start-up, "):
        choose_kinds("kil")


# Striking


@pytest.mark.parametrize(("ranks", "route"), [(1, "auto"), (2, "node"), (2, "flat")])
def test_moments_come_in_order(ranks: int, route: str, data: Path, tmp_path: Path) -> None:
    """Before the update nothing is updated, amid it some parameters are, and then all."""
    options = trial.train_options(replace(NARROW, epochs=1), data, tmp_path / "run")
    status, output, errors = launcher.run(
        ranks, INSIDE / "recorded_moments.py", *options, "--route", route, "--dropout", 0
    )
    assert status == 0, errors
    rows = [line.split()[1:] for line in output.splitlines() if line.startswith("at ")]
    assert rows[0] == [START_UP, "1", "0.000"]
    moments = [moment for moment, _ in groupby(row[0] for row in rows)]
    micro_batches = ["forward", "backward"] * (8 // ranks)
    end = [REDUCED, "update", "share", SHARED]
    # The file is flushed and read back before it is given its name, and flushed once more.
    saving = [GATHER, OPEN, WRITE, FLUSH, WRITTEN, FLUSH, WRITTEN, RENAMED]
    # On the route "flat" another thread sums while backward still goes on.
    steps = [moment for moment in moments if moment != "exchange"]
    if route != "flat":
        assert moments[: moments.index(REDUCED)][-1] == "exchange"
        assert steps == [START_UP, "step", *micro_batches, *end, *saving]
    assert [moment for moment, _ in groupby(steps)][-len([*end, *saving]) :] == [*end, *saving]
    updated = {row[0]: float(row[2]) for row in reversed(rows)}  # when a moment first came
    assert all(updated[m] == 0 for m in ("step", "forward", "backward", "exchange", REDUCED))
    assert 0 < updated["update"] < 0.2
    assert updated["update"] < updated["share"] <= updated[SHARED]
    assert updated[SHARED] > 0.9


@pytest.mark.parametrize("moment", [START_UP, *IN_STEP, *IN_SAVING])
def test_a_strike_strikes_then_and_once(
    moment: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saving = moment in IN_SAVING
    step = 0 if moment == START_UP else 4
    plan = plan_of("kill-forward", moment=moment, rank=0, ranks=2, step=step)
    run = tmp_path / "run"
    told = json.dumps(dict(folder=str(tmp_path), plan=vars(plan)))
    monkeypatch.setenv(faulty.FAULT, told)
    options = [*trial.train_options(NARROW, data, run), "--checkpoint-every", 4]
    status, _, errors = launcher.run(2, "-m", "dist_vgg.chaos.faulty", *options)
    assert status != 0
    assert "Traceback" not in errors
    struck = json.loads((tmp_path / "struck").read_text())
    done = 0 if moment == START_UP else 4 if saving else 3
    assert (struck["moment"], struck["rank"], struck["done"]) == (moment, 0, done)
    assert len(read_metrics(run, "step") if done else []) == done
    names = {path.name.removeprefix(".")[:16] for path in run.glob("checkpoints/*")}
    partials = list(run.rglob(".*.partial"))
    assert bool(partials) == (moment in (WRITE, WRITTEN))
    assert bool(names) == (moment in (WRITE, WRITTEN, RENAMED))
    # Where there is a checkpoint it is that step's, and whole.
    resume = ["--resume"] if moment == RENAMED else []
    if not resume:
        shutil.rmtree(run, ignore_errors=True)
    trial.take_memory(tmp_path)  # which MPICH's killed rank couldn't remove
    status, output, errors = launcher.run(2, "-m", "dist_vgg.chaos.faulty", *resume, *options)
    assert status == 0, errors
    assert ("resumed at step 4 of 15" in output) == bool(resume)
    assert json.loads((tmp_path / "struck").read_text()) == struck
    begun = [e for e in trial.json_lines(tmp_path / "journal.jsonl") if e["what"] == "begin"]
    assert {e["rank"] for e in begun} == {0, 1}


@pytest.mark.parametrize(
    ("kind", "words"), [("io-error", "Input/output error"), ("read-only", "Read-only file system")]
)
def test_a_disk_that_fails(
    kind: str, words: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(kind, ranks=1, attempts=1)
    told = json.dumps(dict(folder=str(tmp_path), plan=vars(plan)))
    monkeypatch.setenv(faulty.FAULT, told)
    options = trial.train_options(NARROW, data, tmp_path / "run")
    _, output, errors = launcher.run(1, "-m", "dist_vgg.chaos.faulty", *options)
    assert words in output + errors
    assert "Traceback" not in errors
    assert json.loads((tmp_path / "struck").read_text())["moment"] == plan.moment


def test_faulty_needs_to_be_told() -> None:
    status, _, errors = launcher.run(1, "-m", "dist_vgg.chaos.faulty")
    assert status == 2
    assert "this is started by: python -m dist_vgg.chaos" in one_line(errors)


@pytest.mark.parametrize("place", [0.0, 0.3, 0.999])
def test_one_bit_of_one_sample_is_flipped(place: int, tmp_path: Path) -> None:
    shards = {k: SimpleNamespace(pixels=np.zeros((7, 4, 4, 1), np.uint8)) for k in (5, 6)}
    trainer: Any = SimpleNamespace(
        route=SimpleNamespace(local_shards=range(5, 7)), batches=SimpleNamespace(_shards=shards)
    )
    trainer.comm, trainer.step = SimpleNamespace(rank=1), 4
    plan = plan_of("flip-sample", place=place, bit=13, rank=1, step=5)
    breaker = faulty.Faulty(tmp_path, plan)
    breaker.trainer = trainer
    breaker.at("step")
    pixels = np.concatenate([shard.pixels.reshape(-1) for shard in shards.values()])
    assert pixels[pixels > 0].tolist() == [1 << 5]
    assert (pixels[:112] > 0).any() == (place < 0.5)


@pytest.mark.parametrize("neighbours", [1, 2])
@pytest.mark.parametrize("kind", ["flip-params", "flip-gradient", "flip-state"])
def test_one_bit_is_flipped_where_it_is_noticed(kind: str, neighbours: int, tmp_path: Path) -> None:
    pieces, anywhere = [(100, 110), (500, 530)], kind == "flip-params" and neighbours == 1
    for place in (0.0, 0.3, 0.999):
        route = SimpleNamespace(
            params=np.ones(1000, np.float32),
            total=np.ones(1000, np.float32),
            owned=pieces,
            state={"m": np.ones(1000, np.float32)},
            kind="flat" if neighbours == 1 else "node",
        )
        trainer: Any = SimpleNamespace(route=route)
        trainer.comm, trainer.step = SimpleNamespace(rank=1), 4
        plan = plan_of(kind, place=place, bit=5, rank=1, step=5)
        breaker = faulty.Faulty(tmp_path, plan)
        breaker.trainer = trainer
        for _ in range(2):  # as in a step with two micro-batches
            breaker.at(plan.moment)
        (tmp_path / "struck").unlink()
        vectors = {"params": route.params, "gradient": route.total, "state": route.state["m"]}
        changed = vectors.pop(plan_of(kind).fault.vector)
        assert all((vector == 1).all() for vector in vectors.values())
        (index,) = np.flatnonzero(changed != 1)
        assert changed.view(np.uint32)[index] ^ np.float32(1).view(np.uint32) == 1 << 5
        assert anywhere or any(lo <= index < hi for lo, hi in pieces)


def test_what_the_supervisor_started() -> None:
    assert faulty.child_of(os.getppid()) == os.getpid()


@pytest.mark.parametrize("harm", ["cut", "flip"])
def test_harm_to_the_newest_checkpoint(harm: str, data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = trial.train_options(replace(NARROW, epochs=1), data, run)
    status, _, errors = launcher.train(1, *options, "--checkpoint-every", 2)
    assert status == 0, errors
    before = {path: path.read_bytes() for path in run.glob("checkpoints/*")}
    trial.harm_checkpoint(plan_of(f"checkpoint-{harm}"), tmp_path)
    after = {path: path.read_bytes() for path in run.glob("checkpoints/*")}
    (harmed,) = (path for path in before if before[path] != after[path])
    assert harmed.name == "step-00000003.h5"
    if harm == "cut":
        assert before[harmed].startswith(after[harmed])
    else:
        flips = [a ^ b for a, b in zip(before[harmed], after[harmed], strict=True) if a != b]
        assert [bits.bit_count() for bits in flips] == [1]
    status, output, errors = launcher.train(1, "--resume", "--out", run)
    assert status == 0, errors
    assert f"checkpoint {harmed} is damaged" in output


def test_flips_reach_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(20))
    for place in np.arange(20) / 20 + 0.01:
        trial.flip_bit(path, place, 3)
    assert path.read_bytes() == bytes([8] * 20)


def test_a_small_disk_or_the_same_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = tmp_path / "undisturbed" / "run" / "checkpoints" / "step-00000003.h5"
    one.parent.mkdir(parents=True)
    one.write_bytes(bytes(100_000))
    plan, place = plan_of("disk-full"), tmp_path / "trial" / "run" / "checkpoints"
    with trial.small_disk(plan, tmp_path / "trial", tmp_path / "data") as real:
        if real == plan:  # we may mount
            with pytest.raises(OSError, match="No space left"):
                (place / "file").write_bytes(bytes(100_000))
            (place / "file").unlink()
            faulty.Faulty(tmp_path / "trial", plan).free()
            for k in range(3):  # two that are kept, and one more
                (place / str(k)).write_bytes(bytes(100_000))
    assert not place.is_mount()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with trial.small_disk(plan, tmp_path / "another", tmp_path / "data") as injected:
        assert (injected.action, injected.moment, injected.step) == ("refuse", FLUSH, 0)
    with pytest.raises(OSError, match="No space left"):
        faulty.Faulty(tmp_path, injected).refuse()


# Judging


def good(plan: Plan) -> Outcome:
    """What is expected of a plan."""
    fault = plan.fault
    said = f"rank {plan.rank} on {HOST}, pid 7: step 3, bucket 0, sample 5 of shard 1"
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
    if fault.words:
        wrong += [(dict(output="nothing"), "nothing was said like")]
    for change, words in wrong:
        found = complaints(plan, replace(good(plan), **change), SHA256)
        assert any(words in text for text in found), (change, found)


def test_another_rank_is_not_the_one() -> None:
    plan = plan_of("stop", ranks=8, rank=1)
    other = good(plan).output.replace("rank 1 on", "rank 11 on")
    assert complaints(plan, replace(good(plan), output=other), SHA256) == [
        "nothing was said like 'rank 1 on node\\\\-7\\\\.cluster\\\\b'"
    ]


def test_what_a_strike_costs() -> None:
    def begin(time: float, step: int, rank: int = 0) -> dict[str, Any]:
        return dict(what="begin", time=time, step=step, rank=rank)

    def stepped(time: float) -> dict[str, Any]:
        return dict(what="stepped", time=time)

    struck = dict(time=10.0, done=7)
    first = [begin(1, 0), begin(1.1, 0, 1), stepped(2)]
    assert trial.recovery(struck, [*first, begin(12.9, 4, 1), begin(13, 4), stepped(14)]) == (3, 4)
    assert trial.recovery(struck, first) == (None, None)
    assert trial.recovery(struck, [*first, begin(13, 8)]) == (0, None)
    assert trial.recovery(None, first) == (None, None)
    # Struck in the second step, before rank 0 had noted the first.
    late = [begin(1, 0), stepped(10.1), begin(13, 0), stepped(14)]
    assert trial.recovery(dict(time=10.0, done=1), late) == (1, 4)


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
    assert [line.split("  ") for line in report.table(results).splitlines()] == [
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


# The whole, with a supervisor that is a stand-in


@pytest.mark.parametrize("how", ["gives up", "hangs", "leaves a process"])
def test_a_failure_can_be_repeated(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = {"gives up": "exit 5", "hangs": "sleep 60", "leaves a process": "sleep 60 & exit 0"}
    words = {"gives up": "status 5 instead of 0", "hangs": "it hung",
             "leaves a process": "processes were left"}  # fmt: skip
    monkeypatch.setattr(trial, "GRACE", 0.2)
    monkeypatch.setattr(trial, "undisturbed", lambda *rest: SHA256)
    monkeypatch.setattr(chaos, "undisturbed", lambda *rest: SHA256)
    monkeypatch.setattr(chaos, "NARROW", replace(NARROW, limit=0.5))
    options = ["--kinds", "slow,sigint", "--seed", "3", "--max-ranks", "4"]
    work = tmp_path / "work"
    status = chaos.main([*options, "--work", str(work)], ["sh", "-c", script[how], "sh"])
    output = capsys.readouterr().out
    assert status == 1
    assert words[how] in output
    again = "python -m dist_vgg.chaos --trials 1 --first 1 --seed 3 --kinds slow,sigint"
    assert f"again   {again} --max-ranks 4 --keep" in output
    assert f"output  {work / 'trial-00001' / 'output.txt'}" in output
    assert not trial.processes(work / "trial-00001")


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nobody = tmp_path / "hosts"
    nobody.write_text("# none yet\n")
    (somebody := tmp_path / "two").write_text("n1\nn2\n")
    cases: list[tuple[list[Any], str]] = [
        (["--trials", 0], "--trials 0 is out of range"),
        (["--max-ranks", 9], "--max-ranks 9 is out of range: 1 to 8"),
        (["--kinds", "flop"], "the kinds are"),
        (["--work", tmp_path], f"--work {tmp_path} is not empty"),
        (["--trails", 3], "did you mean --trials?"),
        (["--hostfile", nobody], "--hostfile needs --work DIR"),
        (["--hostfile", nobody, "--work", tmp_path / "w"], f"--hostfile {nobody} names no host"),
        (["--hostfile", somebody, "--kinds", "kill-two", "--work", tmp_path / "w"], "kill-two is"),
        (["--hostfile", tmp_path / "no", "--work", tmp_path / "w"], "No such file"),
    ]
    for options, words in cases:
        assert chaos.main(list(map(str, options))) == 2
        assert words in one_line(capsys.readouterr().err)


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert chaos.main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == KINDS


def test_sigterm_ends_what_was_started(tmp_path: Path) -> None:
    options = ["--kinds", "slow", "--work", str(tmp_path / "work")]
    code = "import sys; from dist_vgg.chaos.__main__ import main; "
    process = launcher.start(1, "-c", f"{code}sys.exit(main({options}))")
    folder = tmp_path / "work" / "trial-00000"
    while not (folder / "struck").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    status, _, errors = launcher.finish(process)
    assert status == 128 + signal.SIGTERM, errors
    assert not trial.processes(folder)
    assert not trial.take_memory(folder)


# The whole


PARTS = (  # which can run side by side
    "kill-start-up,kill-first-step,kill-forward,kill-backward,kill-exchange",
    "kill-update,kill-share,kill-gather,kill-write,kill-written",
    "kill-renamed,kill-two,kill-supervisor,sigterm,sigint,sigusr1",
    "stop,slow",
    "disk-full,io-error,read-only,checkpoint",
    "flip",
)


def test_no_kind_is_left_out() -> None:
    assert sorted(choose_kinds(",".join(PARTS))) == sorted(KINDS)


@pytest.mark.parametrize("part", PARTS)
def test_one_trial_of_each_kind(part: str, tmp_path: Path) -> None:
    kinds = choose_kinds(part)
    survivors = sum(FAULTS[kind].survives for kind in kinds)
    options = ("--seed", 1, "--kinds", part, "--max-ranks", 3, "--work", tmp_path / "work")
    process = launcher.start(1, "-m", "dist_vgg.chaos", *options, "--json", tmp_path / "seen.json")
    status, output, errors = launcher.finish(process, timeout=300)
    assert status == 0, output + errors
    stopped = "–" if survivors == len(kinds) else "1 of 1"
    last = rf"^all +{len(kinds)} +{survivors} of {survivors} +{stopped} "
    assert re.search(last, output, re.MULTILINE), output
    seen = json.loads((tmp_path / "seen.json").read_text())["trials"]
    assert sorted(trial["kind"] for trial in seen) == sorted(kinds)
    assert not (tmp_path / "work").exists()
