"""Whole runs: the same bits at any ranks and by any route, and what they tell."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import launcher
import numpy as np
import pytest
from launcher import field, train
from sets import in_some_cases
from threadpoolctl import threadpool_info
from training import EPOCHS, SMALL, outcome

from dist_vgg.runs.clock import SPANS
from dist_vgg.runs.log import read_metrics
from dist_vgg.training.rank_times import PARTS


@in_some_cases(
    ("ranks", "route"),
    each=[(2, "node"), (3, "flat")],
    usual=[(-1, "flat"), (2, "flat"), (3, "node"), (4, "auto"), (8, "flat")],
)
def test_same_bits_at_any_ranks_and_route(
    small: tuple[object, ...], ranks: int, route: str, data: Path, reference: Path, tmp_path: Path
) -> None:
    options = ("--data", data, "--out", tmp_path / "run", "--route", route)
    status, output, errors = train(ranks, *options, *small, *EPOCHS)
    assert status == 0, errors
    assert outcome(tmp_path / "run") == outcome(reference)
    shown = {"auto": "node"}.get(route, route)
    assert f"route {shown}" in output


@pytest.mark.parametrize(
    "recipe",
    [
        # Wide enough for several buckets, and for several slices to update in each.
        ("--optimizer", "adam", "--lr", 1e-3, "--clip", 0.5, "--schedule", "step", "--width", 0.15),
        ("--optimizer", "adagrad", "--dropout", 0, "--schedule", "constant", "--seed", 7),
        ("--nesterov", "--limit", 11, "--lr-batch", 48, "--weight-decay", 0.01, "--clip", 0.1),
    ],
    ids=["adam", "adagrad", "nesterov"],
)
def test_same_bits_with_other_recipes(recipe: tuple[Any, ...], data: Path, tmp_path: Path) -> None:
    for ranks in (1, 3):
        options = ("--data", data, "--out", tmp_path / str(ranks), "--epochs", 1)
        status, _, errors = train(ranks, *options, *SMALL, *recipe)
        assert status == 0, errors
    assert outcome(tmp_path / "1") == outcome(tmp_path / "3")


def test_the_rate_is_scaled_and_warmed_up_by_epochs(data: Path, tmp_path: Path) -> None:
    options = ("--lr", 0.01, "--lr-batch", 12, "--warmup-epochs", 1, "--schedule", "constant")
    where = ("--data", data, "--out", tmp_path)
    status, output, errors = train(1, *where, *SMALL, *EPOCHS, *options)
    assert status == 0, errors
    assert "lr 0.02 (0.01 at batch 12) constant, 6 steps in 2 epochs" in output
    rates = [record["lr"] for record in read_metrics(tmp_path, "step")]
    assert rates == pytest.approx([0.02 / 3, 0.04 / 3, 0.02, 0.02, 0.02, 0.02])


def test_it_learns(data: Path, tmp_path: Path) -> None:
    options = ("--width", 0.1, "--micro-batch", 2, "--epochs", 30, "--optimizer", "adam")
    status, _, errors = train(
        1, "--data", data, "--out", tmp_path / "run", "--lr", 1e-3, "--progress", "none", *options
    )
    assert status == 0, errors
    epochs = read_metrics(tmp_path / "run", "epoch")
    assert epochs[0]["accuracy"] < 0.5
    assert epochs[-1]["accuracy"] > 0.8


def test_debug_computes_what_ranks_do_and_shows_layers(
    data: Path, tmp_path: Path, reference: Path
) -> None:
    folder = tmp_path / "run"
    status, output, errors = train(1, "--debug", "--data", data, "--out", folder, *SMALL, *EPOCHS)
    assert status == 0, errors
    assert outcome(folder) == outcome(reference)
    assert "all 32 gradients agree" in output
    assert "update/weight" in output
    assert "conv5_3" in output


def test_one_rank_has_one_figure_of_memory(data: Path, tmp_path: Path) -> None:
    """Of two, "of all" had been the smaller one."""
    for ranks, words in ((1, r"([\d.]+) GiB"), (2, r"([\d.]+) GiB of the .*, ([\d.]+) GiB of all")):
        options = ("--data", data, "--out", tmp_path / str(ranks), *SMALL, "--epochs", 1)
        status, output, errors = train(ranks, *options)
        assert status == 0, errors
        found = re.fullmatch(words, field(output, "memory"))
        assert found
        assert sorted(map(float, found.groups())) == list(map(float, found.groups()))


def test_each_step_has_the_seconds_of_every_rank(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = ("--data", data, "--out", folder, "--route", "flat", *SMALL, *EPOCHS)
    status, output, errors = train(3, *options)
    assert status == 0, errors
    assert field(output, "limit")
    steps, ranks = read_metrics(folder, "step"), read_metrics(folder, "ranks")
    parameters = json.loads((folder / "config.json").read_text())["parameters"]
    assert [record["step"] for record in ranks] == [record["step"] for record in steps]
    for step, record in zip(steps, ranks, strict=True):
        assert record["ranks"] == [0, 1, 2]
        each = np.array([record[part] for part in PARTS])
        assert (each >= 0).all()
        assert each[:, 0].sum() == pytest.approx(sum(step["seconds"].values()), abs=1e-4)
        assert min(each[PARTS.index("waiting")]) == 0  # the slowest
        images = step["images_per_s"] * sum(step["seconds"].values())
        assert sum(record["images"]) == pytest.approx(images, rel=1e-3)
    # The pieces of one or two sums of each rank, to those who own them; then the parameters, which
    # may go in the step after.
    sent = sum(sum(record["sent_bytes"]) for record in ranks) / len(steps)
    assert 4 * parameters * (2 + 2) <= sent <= 4 * parameters * (4 + 2)


def test_seconds_of_each_step_are_its_own(reference: Path) -> None:
    for record in read_metrics(reference, "step"):
        seconds = record["seconds"]
        assert list(seconds) == list(SPANS)
        # Every part of a step takes some time, but for pooling, which is within a convolution.
        assert {name for name in SPANS if not seconds[name]} == {"forward pool", "backward pool"}
        images = record["images_per_s"] * sum(seconds.values())
        assert images == pytest.approx(round(images), rel=1e-3)


def test_config_file_and_command_line(data: Path, tmp_path: Path) -> None:
    toml = tmp_path / "recipe.toml"
    toml.write_text('width = 0.02\nmicro-batch = 3\nlr = 0.5\nprogress = "none"\nepochs = 1\n')
    folder = tmp_path / "run"
    status, _, errors = train(1, "--config", toml, "--data", data, "--out", folder, "--lr", 0.25)
    assert status == 0, errors
    stored = json.loads((folder / "config.json").read_text())
    assert (stored["config"]["lr"], stored["config"]["micro_batch"]) == (0.25, 3)
    assert {"numpy", "mpi", "mpi4py"} <= set(stored["versions"])
    kernels = {i.get("architecture", "") for i in threadpool_info() if i["user_api"] == "blas"}
    assert all(kernel in " ".join(stored["versions"]["blas"]) for kernel in kernels)
    assert stored["ranks"] == 1


def test_import_starts_no_mpi() -> None:
    code = "import sys, dist_vgg.train, dist_vgg.evaluate; sys.exit('mpi4py.MPI' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=launcher.ROOT)
