"""Each fault strikes at its moment, once, and where it is meant to."""

import json
import os
import platform
import shutil
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import launcher
import numpy as np
import pytest
from chaos_plans import plan_of
from launcher import one_line

from dist_vgg.chaos.faults import (
    AGREED,
    ARRIVE,
    FLUSH,
    GATHER,
    IN_SAVING,
    IN_STEP,
    OPEN,
    REDUCED,
    RENAMED,
    SHARED,
    START_UP,
    WRITE,
    WRITTEN,
)
from dist_vgg.chaos.injector import FAULT, FaultInjector, child_of
from dist_vgg.chaos.outcome import json_lines, remove_memory
from dist_vgg.chaos.plan import NARROW
from dist_vgg.chaos.trial import train_options
from dist_vgg.runs.log import read_metrics

INSIDE = launcher.ROOT / "tests" / "inside_ranks"


@pytest.mark.parametrize(("ranks", "route"), [(1, "auto"), (2, "node"), (2, "flat")])
def test_moments_come_in_order(ranks: int, route: str, data: Path, tmp_path: Path) -> None:
    """Before the update nothing is updated, amid it some parameters are, and then all."""
    options = train_options(replace(NARROW, epochs=1), data, tmp_path / "run")
    status, output, errors = launcher.run(
        ranks, INSIDE / "recorded_moments.py", *options, "--route", route, "--dropout", 0,
        "--kernels", "numpy",  # where each micro-batch runs alone
    )  # fmt: skip
    assert status == 0, errors
    rows = [line.split()[1:] for line in output.splitlines() if line.startswith("at ")]
    assert rows[0] == [START_UP, "1", "0.000"]
    moments = [moment for moment, _ in groupby(row[0] for row in rows)]
    micro_batches = [ARRIVE, "forward", ARRIVE, "backward"] * (8 // ranks)
    end = [REDUCED, AGREED, "update", "share", SHARED]
    # The file is flushed and read back before it is given its name, and flushed once more.
    saving = [GATHER, OPEN, WRITE, FLUSH, WRITTEN, FLUSH, WRITTEN, RENAMED]
    # On the route "flat" another thread sums while backward still goes on.
    steps = [moment for moment in moments if moment != "exchange"]
    if route != "flat":
        assert moments[: moments.index(REDUCED)][-1] == "exchange"
        assert steps == [START_UP, "step", *micro_batches, *end, *saving]
    assert [moment for moment, _ in groupby(steps)][-len([*end, *saving]) :] == [*end, *saving]
    updated = {row[0]: float(row[2]) for row in reversed(rows)}  # when a moment first came
    assert all(
        updated[m] == 0 for m in ("step", "forward", "backward", "exchange", REDUCED, AGREED)
    )
    assert 0 < updated["update"] < 0.2
    assert updated["update"] < updated["share"] <= updated[SHARED]
    assert updated[SHARED] > 0.9


@pytest.mark.parametrize("moment", [START_UP, *IN_STEP, *IN_SAVING])
def test_a_strike_strikes_then_and_once(
    moment: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saving = moment in IN_SAVING
    step = 0 if moment == START_UP else 4
    goes_on = moment in (START_UP, "forward", RENAMED)
    ranks = 2 if goes_on or moment == "exchange" else 1
    plan = plan_of("kill-forward", moment=moment, rank=0, ranks=ranks, step=step)
    run = tmp_path / "run"
    told = json.dumps(dict(folder=str(tmp_path), plan=vars(plan), breaker=""))
    monkeypatch.setenv(FAULT, told)
    options = [*train_options(NARROW, data, run), "--checkpoint-every", 4]
    status, _, errors = launcher.run(ranks, "-m", "dist_vgg.chaos.faulty", *options)
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
    if not goes_on:
        return  # the trials of test_chaos.py start again after each
    # Where there is a checkpoint it is that step's, and whole.
    resume = ["--resume"] if moment == RENAMED else []
    if not resume:
        shutil.rmtree(run, ignore_errors=True)
    remove_memory(tmp_path)  # which MPICH's killed rank couldn't remove
    status, output, errors = launcher.run(2, "-m", "dist_vgg.chaos.faulty", *resume, *options)
    assert status == 0, errors
    assert ("resumed at step 4 of 15" in output) == bool(resume)
    assert json.loads((tmp_path / "struck").read_text()) == struck
    begun = [e for e in json_lines(tmp_path / "journal.jsonl") if e["what"] == "begin"]
    assert {e["rank"] for e in begun} == {0, 1}


@pytest.mark.parametrize(
    ("kind", "words"), [("io-error", "Input/output error"), ("read-only", "Read-only file system")]
)
def test_a_disk_that_fails(
    kind: str, words: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(kind, ranks=1, attempts=1)
    told = json.dumps(dict(folder=str(tmp_path), plan=vars(plan), breaker=""))
    monkeypatch.setenv(FAULT, told)
    options = train_options(NARROW, data, tmp_path / "run")
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
    injector = FaultInjector(tmp_path, plan)
    injector.trainer = trainer
    injector.at("step")
    pixels = np.concatenate([shard.pixels.reshape(-1) for shard in shards.values()])
    assert pixels[pixels > 0].tolist() == [1 << 5]
    assert (pixels[:112] > 0).any() == (place < 0.5)


@pytest.mark.parametrize("neighbours", [1, 2])
@pytest.mark.parametrize("kind", ["flip-params", "flip-gradient", "flip-state"])
def test_one_bit_is_flipped_where_it_is_noticed(kind: str, neighbours: int, tmp_path: Path) -> None:
    owned, anywhere = [(100, 110), (500, 530)], kind == "flip-params" and neighbours == 1
    for place in (0.0, 0.3, 0.999):
        route = SimpleNamespace(
            params=np.ones(1000, np.float32),
            total=np.ones(1000, np.float32),
            owned=owned,
            state={"m": np.ones(1000, np.float32)},
            kind="flat" if neighbours == 1 else "node",
            partition=SimpleNamespace(count=1000),
            need=lambda lo, hi: None,
        )
        trainer: Any = SimpleNamespace(route=route)
        trainer.comm, trainer.step = SimpleNamespace(rank=1), 4
        plan = plan_of(kind, place=place, bit=5, rank=1, step=5)
        injector = FaultInjector(tmp_path, plan)
        injector.trainer = trainer
        for _ in range(2):  # as in a step with two micro-batches
            injector.at(plan.moment)
        (tmp_path / "struck").unlink()
        vectors = {"params": route.params, "gradient": route.total, "state": route.state["m"]}
        changed = vectors.pop(plan_of(kind).fault.vector)
        assert all((vector == 1).all() for vector in vectors.values())
        (index,) = np.flatnonzero(changed != 1)
        assert changed.view(np.uint32)[index] ^ np.float32(1).view(np.uint32) == 1 << 5
        assert anywhere or any(lo <= index < hi for lo, hi in owned)


@pytest.mark.parametrize(
    ("hosts", "rank", "victim"),
    [("aab", 0, 2), ("aab", 1, 2), ("abcabc", 0, 1), ("abcabc", 3, 5), ("aa", 1, -1)],
)
def test_a_host_that_is_struck_is_not_the_supervisors(
    hosts: str, rank: int, victim: int, tmp_path: Path
) -> None:
    struck, breaker = tmp_path / "struck-host", tmp_path / "breaker"
    breaker.write_text(f"#!/bin/sh\necho $* >'{struck}'\n")
    breaker.chmod(0o755)
    plan = plan_of("host-cut", rank=rank, step=5)
    injector = FaultInjector(tmp_path, plan, f"{breaker} now")
    injector.know_hosts(hosts)
    for rank in range(len(hosts)):
        trainer: Any = SimpleNamespace(comm=SimpleNamespace(rank=rank), step=4)
        injector.trainer = trainer
        injector.at(plan.moment)
        assert struck.exists() == (0 <= injector.victim <= rank)
    assert injector.victim == victim
    assert not struck.exists() or struck.read_text() == f"now cut {platform.node()}\n"


def test_what_the_supervisor_started() -> None:
    assert child_of(os.getppid()) == os.getpid()
