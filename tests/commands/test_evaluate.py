"""Evaluation: every image once, the same numbers at any rank count."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from launcher import here, one_line, run, train
from lies import say
from preparing import held_out_beside, save_one_shard
from sets import KERNELS
from training import refused

from dist_vgg.evaluate import confusion_table
from dist_vgg.training.scoring import Score


@pytest.fixture(scope="module")
def weights(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "run"
    options = ("--width", 0.02, "--epochs", 1, "--progress", "none")
    status, _, errors = train(1, "--data", data, "--out", folder, *options)
    assert status == 0, errors
    return folder


def evaluate(ranks: int, *options: object) -> tuple[int, str, str]:
    if ranks == 1:
        return here("dist_vgg.evaluate", *options)
    return run(ranks, "-m", "dist_vgg.evaluate", *options)


def test_same_numbers_at_any_rank_count(weights: Path, data: Path, tmp_path: Path) -> None:
    results = []
    for ranks in (1, 2, 5):
        path = tmp_path / f"{ranks}.json"
        options = ("--data", data, "--shifts", 3, "--json", path)
        status, output, errors = evaluate(ranks, weights, *options)
        assert status == 0, errors
        assert "of 20)" in output
        results.append(json.loads(path.read_text()))
    assert all(result == results[0] for result in results)
    confusion = np.array(results[0]["confusion"])
    assert confusion.sum(axis=1).tolist() == [2] * 10  # each test image once
    assert results[0]["accuracy"] == np.trace(confusion) / 20


def test_training_split(weights: Path, data: Path) -> None:
    status, output, _ = evaluate(1, weights / "weights.h5", "--data", data, "--split", "train")
    assert status == 0
    assert "of 61)" in output


def test_limit_takes_even_parts(weights: Path, data: Path) -> None:
    for ranks in (1, 3):
        status, output, _ = evaluate(ranks, weights, "--data", data, "--limit", 11)
        assert status == 0
        assert "of 11)" in output


def test_any_kernels_score_any_weights(weights: Path, data: Path, tmp_path: Path) -> None:
    losses = {}
    for name in (*KERNELS, "reference"):
        path = tmp_path / f"{name}.json"
        options = ("--data", data, "--split", "train", "--json", path, "--kernels", name)
        status, _, errors = evaluate(1, weights, *options)
        assert status == 0, errors
        losses[name] = json.loads(path.read_text())["loss"]
    # In so narrow a network NumPy's are the reference's.
    assert losses["numpy"] == losses["reference"]
    assert list(losses.values()) == pytest.approx([losses["reference"]] * len(losses), rel=1e-5)


def test_the_kernels_of_ranks_are_compared(weights: Path, data: Path) -> None:
    command = ("-m", "dist_vgg.evaluate", weights, "--data", data, "--kernels")
    several = (*command, "numpy", ":", "-n", 1, sys.executable, *command, "reference")
    status, _, errors = run(-1, *several)
    assert status == 2
    line = one_line(errors)
    assert "ranks differ in the kernels: numpy 1 for rank 0 on " in line
    assert "reference 1 for rank 1 on " in line


@pytest.fixture(scope="module")
def named(data: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The weights and the data with names of the classes, the test images as held out as well."""
    folder = tmp_path_factory.mktemp("named")
    names = ["nought", *"123456789"]
    held_out_beside(data, folder / "data", class_names=names)
    shutil.copy(weights / "weights.h5", folder / "weights.h5")
    say(folder / "weights.h5", class_names=names)
    return folder / "weights.h5", folder / "data"


def test_classes_are_called_by_their_names(named: tuple[Path, Path], tmp_path: Path) -> None:
    weights, folder = named
    result = tmp_path / "result.json"
    options = ("--data", folder, "--split", "held-out", "--json", result)
    status, output, errors = evaluate(3, weights, *options)
    assert status == 0, errors
    assert f"data    {folder}, held-out: mnist" in output
    assert "\n       nought  0     " in output
    found = json.loads(result.read_text())
    assert (found["class_names"][0], found["split"], found["images"]) == (
        "nought",
        "held-out",
        "held-out",
    )


def test_other_classes_or_splits_are_refused(
    named: tuple[Path, Path], data: Path, tmp_path: Path
) -> None:
    weights, folder = named
    other = tmp_path / "weights.h5"
    shutil.copy(weights, other)
    say(other, class_names=["zero", *"123456789"])
    lacks = "has no held-out images, only train and test; prepare it with"
    differs = f"the weights know a class zero where {folder} has nought; prepare or name"
    mistakes = [
        ((weights, "--data", data, "--split", "held-out"), lacks),
        ((other, "--data", folder), differs),
    ]
    refused(2, "dist_vgg.evaluate", mistakes)


def test_of_many_classes_the_worst_confusions_are_shown() -> None:
    confusion = np.diag(np.full(40, 5))
    confusion[3, 7], confusion[30, 2] = 4, 2
    table = confusion_table(Score(confusion, 0.5))
    assert table == "true  predicted  images\n3             7  4 of 9\n30            2  2 of 7"
    names = [f"class {k}" for k in range(40)]
    assert "\nclass 30    class 2  2 of 7" in confusion_table(Score(confusion, 0.5), names)
    assert "no image was taken" in confusion_table(Score(np.eye(40, dtype=int), 0.5))


def test_bad_input_is_one_line(weights: Path, data: Path, tmp_path: Path) -> None:
    text = tmp_path / "weights.txt"
    text.write_text("no weights")
    short = tmp_path / "short.h5"
    short.write_bytes((weights / "weights.h5").read_bytes()[:4000])
    other = shutil.copytree(data, tmp_path / "other")
    for path in other.iterdir():
        say(path, classes=26)
    checkpoint = next((weights / "checkpoints").iterdir())
    cases: list[tuple[tuple[object, ...], str]] = [
        ((tmp_path / "gone",), f"no weights {tmp_path / 'gone'}"),
        ((text,), f"{text} can't be used as weights"),
        ((short,), f"{short} can't be used as weights"),
        ((checkpoint,), "it holds no weights"),
        ((weights, "--data", tmp_path), f"no shards in {tmp_path}"),
        ((weights, "--data", other), "the weights are for classes 10"),
        ((weights, "--data", save_one_shard(tmp_path / "one")), "2 ranks for 1 shard"),
        ((weights, "--data", data, "--limit", -1), "--limit -1 is out of range"),
        ((weights, "--data", data, "--shifts", 32), "--shifts 32 is out of range"),
        ((weights, "--data", data, "--shifts", -1), "--shifts -1 is out of range"),
        ((weights, "--data", data, "--kernels", "fast"), "invalid choice: 'fast'"),
        ((weights, "--splitt", "test"), "did you mean --split?"),
        ((weights, "--data", data, "--json", text / "x"), f"can't write --json {text / 'x'}"),
    ]
    refused(2, "dist_vgg.evaluate", cases)


def test_help_is_shown_once() -> None:
    status, output, errors = evaluate(3, "--help")
    assert status == 0, errors
    assert output.count("usage:") == 1
