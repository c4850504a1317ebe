"""A run's kernels: named at its head and in its files, the same on all ranks, kept for life."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from launcher import here, one_line, train
from lies import edited, say
from sets import each_set, fake_compiled
from training import EPOCHS, SMALL, outcome, refused

from dist_vgg.base.machine import blas_kernels
from dist_vgg.kernels import numpy_set, reference
from dist_vgg.kernels.sets import load
from dist_vgg.runs.config import TrainConfig
from dist_vgg.state.checkpoint import load_newest
from dist_vgg.state.weights import load_weights
from dist_vgg.training import messages, setup


def test_the_line_at_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    blas = f"NumPy {np.__version__}, {', '.join(blas_kernels())}"
    assert messages.kernels_line(numpy_set) == blas
    assert messages.kernels_line(reference) == f"reference 1, {blas}"
    fake_compiled(monkeypatch, version=4)
    monkeypatch.setattr(messages, "numba_version", lambda: "0.68.1")
    assert messages.kernels_line(load("compiled")) == "compiled 4 (Numba 0.68.1)"


def test_what_ranks_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: dict[str, object] = {}
    monkeypatch.setattr(setup, "require_same", lambda comm, facts, mend: compared.update(facts))
    comm: Any = None
    setup.require_same_kernels(comm, numpy_set)
    assert set(compared) == {"the kernels", "the BLAS kernels", "the BLAS threads"}
    assert compared["the kernels"] == "numpy 1"
    compared.clear()
    fake_compiled(monkeypatch, version=2)
    setup.require_same_kernels(comm, load("compiled"))
    assert compared == {"the kernels": "compiled 2"}  # whatever the processor


@each_set
def test_all_files_of_a_run_name_its_kernels(kernels: str, reference: Path) -> None:
    version = load(kernels).VERSION
    content = json.loads((reference / "config.json").read_text())
    assert (content["config"]["kernels"], content["kernels_version"]) == (kernels, version)
    weights = load_weights(reference)
    assert (weights.kernels, weights.kernels_version) == (kernels, version)
    newest = load_newest(reference / "checkpoints", print)
    assert (newest.config["kernels"], newest.kernels_version) == (kernels, version)


def make_older(folder: Path, **options: str) -> None:
    """Make a run that has done its first epoch one of a version that knew no --kernels."""
    newest, before = sorted((folder / "checkpoints").iterdir(), reverse=True)
    newest.unlink()
    (folder / "weights.h5").unlink()
    with edited(before) as file:
        config = json.loads(file.attrs["header"])["config"]
    del config["kernels"]
    say(before, "kernels_version", config={**config, **options})
    path = folder / "config.json"
    content = json.loads(path.read_text())
    del content["kernels_version"]
    path.write_text(json.dumps({**content, "config": {**config, **options}}))


@pytest.mark.parametrize(("conv", "kernels"), [("fast", "numpy"), ("reference", "reference")])
def test_a_run_of_an_earlier_version_goes_on(
    conv: str, kernels: str, data: Path, tmp_path: Path
) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "run"
    status, output, errors = train(
        1, "--data", data, "--out", whole, "--conv", conv, *SMALL, *EPOCHS,
        *(["--kernels", "numpy"] if conv == "fast" else []),
    )  # fmt: skip
    assert status == 0, errors
    assert ("kernels reference 1, NumPy" in output) == (kernels == "reference")
    shutil.copytree(whole, folder)
    make_older(folder, conv=conv)
    status, output, errors = train(1, "--resume", "--out", folder, "--kernels", "auto")
    assert status == 0, errors
    assert "resumed at step 3 of 6" in output
    assert outcome(folder) == outcome(whole)
    assert load_weights(folder).kernels == kernels
    status, _, errors = here("dist_vgg.replay", folder, "--step", 2)
    assert status == 0, errors


def test_a_run_does_not_go_on_with_kernels_of_another_version(
    reference: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(reference, tmp_path / "run")
    for path in (folder / "checkpoints").iterdir():
        say(path, kernels_version=99)
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, "kernels_version": 99}))
    words = "the run began with version 99 of the kernels"
    refused(2, "dist_vgg.train", [(("--resume", "--out", folder), words)])
    refused(1, "dist_vgg.replay", [((folder, "--step", 2), words)])  # no checkpoint goes before it


def test_a_contradiction_is_one_line(data: Path, tmp_path: Path) -> None:
    words = ("--conv", "reference", "--kernels", "numpy")
    status, _, errors = train(1, "--data", data, "--out", tmp_path / "run", *words)
    assert status == 2
    assert "--conv reference contradicts --kernels numpy" in one_line(errors)
    assert not (tmp_path / "run").exists()


def test_kernels_are_an_option_of_the_result() -> None:
    results = [TrainConfig(kernels=name).result_options() for name in ("numpy", "reference")]
    assert results[0] != results[1]
