"""Benchmarks that start ranks: each runs in small, and leaves nothing behind."""

import os
import signal
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from benching import QUICK, SMALL
from launcher import finish, start
from mpi4py import MPI
from sets import KERNELS

from dist_vgg.bench import audit
from dist_vgg.bench.flops import network_flops
from dist_vgg.bench.random_trainer import random_trainer
from dist_vgg.kernels.sets import COMPILED
from dist_vgg.network.vgg import vgg16
from dist_vgg.training.trainer import Trainer


def test_step(measured: Any) -> None:
    options = ("--ranks", "1,2", "--shards", "3", "--micro-batch", "2")
    output, found = measured("step", *QUICK, *options)
    assert list(found["contenders"]) == ["dist_vgg, 1 rank", "dist_vgg, 2 ranks"]
    for entry in found["contenders"].values():
        assert len(entry["images_per_s"]["values"]) == 2
        assert entry["seconds_to_start"]["low"] > 0
        assert all(0 < s["median"] < 1 for s in entry["memory_gib"])
        shares = dict(entry["shares"])
        both = shares.pop("exchange and update")
        assert both == pytest.approx(shares["exchange"] + shares["update"], abs=0.1)
        assert 0.5 < sum(shares.values()) < 1.5  # medians of two noisy rounds
        assert all(f"\n{part} " in output for part in shares)
    assert found["ratios"] == []
    assert found["flops_of_an_image"] == sum(network_flops(vgg16(width=0.05)))


def test_evaluation(measured: Any) -> None:
    output, found = measured(
        "evaluation", *QUICK, "--repeat", "1", "--ranks", "1,2", "--images", "35"
    )
    assert list(found["contenders"]) == ["dist_vgg, 1 rank", "dist_vgg, 2 ranks"]
    assert found["flops_of_an_image"] == network_flops(vgg16(width=0.05))[0]
    assert "GiB" not in output.split("images/s")[1]  # a column without numbers is not shown


def test_exchange(measured: Any) -> None:
    options = ("--ranks", "2,3", "--sizes", "1e3,70001", "--repeat", "2", "--stream", "1e5")
    _, found = measured("exchange", *options)
    places = [(e["ranks"], e["numbers"]) for e in found["exchanges"] if e["route"] == "flat"]
    assert places == [(2, 1000), (2, 70001), (3, 1000), (3, 70001)]
    assert {e["route"] for e in found["exchanges"]} >= {"flat", "mpi"}
    for entry in found["exchanges"]:
        assert len(entry["ms"]["values"]) == 2
        assert entry["bytes_a_rank"] * entry["ranks"] == pytest.approx(
            2 * (entry["ranks"] - 1) * 4 * entry["numbers"]
        )


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's /proc")
def test_audit(measured: Any, memory: set[Path]) -> None:
    options = ("--ranks", "3", "--shards", "4", "--micro-batch", "2", "--width", "0.05")
    output, found = measured("audit", *options, "--repeat", "3")
    assert [set(turn) for turn in found["seconds"]] == [{"both", "neither"}] * 3
    assert len(found["step"]) == 2
    assert found["kept"]
    assert found["share"] == pytest.approx(found["more"]["median"] / (1e3 * sum(found["step"]) / 2))
    assert "of a step" in output
    assert any("bench" in path.name for path in memory)
    assert not [path for path in memory if path.exists()]


@pytest.mark.skipif(COMPILED not in KERNELS, reason="Numba is not installed")
def test_both_sides_of_the_audit_multiply_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    trainers: list[Trainer] = []

    def kept(*given: Any) -> Trainer:
        trainers.append(random_trainer(*given))
        return trainers[-1]

    monkeypatch.setattr(audit, "random_trainer", kept)
    audit.measure(MPI.COMM_SELF, 1, 1, micro_batch=2, width=0.05, kernels=COMPILED)
    assert [trainer.route._factors._counts for trainer in trainers] == [[2], [2]]


def test_memory(measured: Any) -> None:
    options = ("--ranks", "2", "--shards", "3", "--micro-batch", "2", "--width", "0.05")
    output, found = measured("memory", *options)
    held = list(found["stages"].values())
    assert held[0]["rank"] > 10 << 20  # Python and NumPy
    for before, after in pairwise(held):
        assert after["all"] > before["all"] - (1 << 20)
    assert held[-1]["rank"] <= found["reported"][0] * 1.01
    assert "a step, at its peak" in output


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing_behind(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # What the benchmark starts inherits this, and can be told by it.
    mark = f"BENCH_TEST={tmp_path}"
    monkeypatch.setenv(*mark.split("="))
    process = start(1, "-m", "dist_vgg.bench", "step", *SMALL, "--seconds", "600")
    deadline = time.monotonic() + 30
    while len(workers(mark)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    os.kill(process.pid, number)
    status, _, errors = finish(process, timeout=20)
    assert status == 130, errors
    assert errors == "dist_vgg.bench: interrupted\n"
    deadline = time.monotonic() + 5
    while workers(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not workers(mark)


def workers(mark: str) -> list[str]:
    """Ranks of step's that carry a mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes()
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if mark.encode() in environment.split(b"\0") and b"dist_vgg.bench.worker" in words:
            found.append(f"{folder.name} {words!r}")
    return found
