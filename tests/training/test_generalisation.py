"""Augmentation, smooth labels, averaged weights and early stopping: the same bits on any ranks."""

import json
from pathlib import Path

import numpy as np
import pytest
from launcher import field, here, one_line, train
from lies import say
from training import outcome, refused, struck

from dist_vgg.network.vgg import initialise, vgg16
from dist_vgg.runs.folder import has_finished
from dist_vgg.runs.log import read_metrics
from dist_vgg.state.checkpoint import checkpoints, load_newest
from dist_vgg.state.weights import load_weights

SMALL = ("--width", 0.02, "--micro-batch", 3, "--warmup", 2, "--progress", "none", "--epochs", 2)
VARIED = ("--rotate", 15, "--scale", 0.1, "--shear", 10, "--shift", 0.1, "--deform", 0.03)
RECIPE = (*VARIED, "--label-smoothing", 0.1, "--ema", 0.9, "--optimizer", "adam")


@pytest.fixture(scope="module")
def held_out(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same shards, whose test images count as held out of the training set."""
    folder = tmp_path_factory.mktemp("held-out")
    for path in data.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
        say(folder / path.name, request='{"held_out": 20}')
    return folder


@pytest.fixture(scope="module")
def reference(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference") / "run"
    status, _, errors = train(1, "--data", data, "--out", folder, *SMALL, *RECIPE, "--keep", 99,
                              "--checkpoint-every", 1)  # fmt: skip
    assert status == 0, errors
    return folder


def average(folder: Path) -> str:
    return load_weights(folder / "average.h5").sha256


@pytest.mark.parametrize(("ranks", "route"), [(3, "flat"), (4, "auto")])
def test_same_bits_at_any_ranks(
    ranks: int, route: str, data: Path, tmp_path: Path, reference: Path
) -> None:
    options = ("--data", data, "--out", tmp_path / "run", *SMALL, *RECIPE, "--route", route)
    status, _, errors = train(ranks, *options)
    assert status == 0, errors
    assert outcome(tmp_path / "run") == outcome(reference)
    assert average(tmp_path / "run") == average(reference)


@pytest.mark.parametrize("fault", ["1 4 update kill", "0 4 forward kill"])
def test_killed_and_resumed_is_never_killed(
    fault: str, data: Path, tmp_path: Path, reference: Path
) -> None:
    options = ("--data", data, "--out", tmp_path / "run", *SMALL, *RECIPE)
    assert struck(3, fault, *options)[0]
    status, output, errors = train(1, *options, "--resume")
    assert status == 0, errors
    assert "from memory" in output
    assert average(tmp_path / "run") == average(reference)


def test_the_average_is_that_of_the_parameters(kernels: str, reference: Path) -> None:
    folder = reference / "checkpoints"
    assert len(checkpoints(folder)) == 6
    net = vgg16(size=32, width=0.02, kernels=kernels)
    expected = np.zeros(net.parameter_count, np.float32)
    initialise(net, expected, seed=0)  # where training, and so the average, begins
    for step in range(1, 7):
        state = load_newest(folder, print, below=step + 1)
        expected = expected + (1 - min(0.9, (1 + step) / (10 + step))) * (state.params - expected)
        np.testing.assert_allclose(state.state["average"], expected, atol=1e-6)
    whole = load_weights(reference / "average.h5")
    np.testing.assert_array_equal(whole.params, state.state["average"])
    assert whole.sha256 != load_weights(reference).sha256


@pytest.mark.parametrize("varied", ["--rotate", "--deform", "--label-smoothing"])
def test_each_option_changes_the_weights(varied: str, data: Path, tmp_path: Path) -> None:
    digests = set()
    for value in (0, 0.1):
        folder = tmp_path / str(value)
        status, _, errors = train(1, "--data", data, "--out", folder, *SMALL, varied, value)
        assert status == 0, errors
        digests.add(load_weights(folder).sha256)
    assert len(digests) == 2


def test_an_average_changes_no_weights(data: Path, tmp_path: Path) -> None:
    for name, options in (("with", ("--ema", 0.9)), ("without", ())):
        assert train(1, "--data", data, "--out", tmp_path / name, *SMALL, *options)[0] == 0
    assert outcome(tmp_path / "with") == outcome(tmp_path / "without")
    assert not (tmp_path / "without" / "average.h5").exists()


EARLY = (*SMALL, "--epochs", 9, "--ema", 0.5, "--validate", 1, "--patience", 2, "--lr", 1e-9)


@pytest.fixture(scope="module")
def early(held_out: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process that ended early."""
    folder = tmp_path_factory.mktemp("early") / "run"
    status, _, errors = train(1, "--data", held_out, "--out", folder, *EARLY)
    assert status == 0, errors
    return folder


def best_of(folder: Path) -> tuple[int, str]:
    weights = load_weights(folder / "best.h5")
    return weights.step, weights.sha256


@pytest.mark.parametrize(("ranks", "route"), [(1, "auto"), (2, "node"), (3, "flat")])
def test_a_run_that_gets_no_better_ends_early(
    ranks: int, route: str, held_out: Path, tmp_path: Path, early: Path
) -> None:
    folder = tmp_path / "run"
    options = ("--data", held_out, "--out", folder, *EARLY, "--route", route)
    status, output, errors = train(ranks, *options)
    assert status == 0, errors
    assert outcome(folder) == outcome(early)
    assert (best_of(folder), average(folder)) == (best_of(early), average(early))
    scores = read_metrics(folder, "score")
    assert len(scores) < 9
    keys = [(s["average_accuracy"], -s["average_loss"]) for s in scores]
    best = keys.index(max(keys))
    assert len(scores) == best + 3
    weights = load_weights(folder / "best.h5")
    assert weights.step == scores[best]["step"]
    ended = "no better for 2 scores: ended early; best.h5 is of step "
    assert f"{ended}{weights.step}, held-out accuracy {max(keys)[0]:.2%}" in output
    assert f"{folder / 'best.h5'}, of step {weights.step}" in field(output, "best")
    assert json.loads((folder / "config.json").read_text())["steps"] == scores[-1]["step"]
    assert has_finished(folder)
    # The other options are the checkpoint's, --validate among them.
    status, output, errors = train(1, "--out", folder, "--patience", 2, "--resume")
    assert status == 0, errors
    assert ended in output
    assert outcome(folder) == outcome(early)
    assert best_of(folder) == best_of(early)
    assert has_finished(folder)


@pytest.mark.parametrize("moment", ["gather", "weights"])
def test_a_rank_killed_as_a_run_ends_early(
    moment: str, held_out: Path, tmp_path: Path, early: Path
) -> None:
    folder = tmp_path / "run"
    last = read_metrics(early, "score")[-1]["step"]
    # The best weights are not written at this step, so it is the end that is struck.
    assert best_of(early)[0] != last
    options = ("--data", held_out, "--out", folder, *EARLY)
    assert struck(3, f"0 {last} {moment} kill", *options)[0]
    assert not has_finished(folder)
    status, _, errors = train(1, *options, "--resume")
    assert status == 0, errors
    assert has_finished(folder)
    assert outcome(folder) == outcome(early)
    assert best_of(folder) == best_of(early)


def test_best_weights_that_cant_be_written_come_again(
    held_out: Path, tmp_path: Path, early: Path
) -> None:
    folder = tmp_path / "run"
    options = ("--data", held_out, "--out", folder, *EARLY)
    folder.mkdir()
    (folder / "best.h5").mkdir()
    (folder / "best.h5" / "in the way").touch()
    status, _, errors = train(2, *options)
    assert status == 2
    assert "can't make the run's folder" in one_line(errors)
    (folder / "best.h5" / "in the way").unlink()
    (folder / "best.h5").rmdir()
    status, _, errors = struck(2, "0 3 digest block", *options)
    assert status == 2
    assert f"go on with --resume --out {folder}" in one_line(errors)
    (folder / "best.h5").rmdir()
    status, output, errors = train(1, *options, "--resume")
    assert status == 0, errors
    assert "resumed at step 2" in output
    assert outcome(folder) == outcome(early)
    assert best_of(folder) == best_of(early)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_score_that_is_no_number_is_told(ranks: int, held_out: Path, tmp_path: Path) -> None:
    # The one step's own loss is fine; it is the update that takes the parameters too far.
    options = ("--data", held_out, "--out", tmp_path / "run", *SMALL, "--epochs", 1)
    options += ("--micro-batch", 99, "--lr", 1e30, "--clip", 0, "--warmup", 0)
    status, _, errors = train(ranks, *options, "--validate", 1, "--patience", 1)
    assert status == 70
    assert "step 1: the loss of the held-out images is nan; lower --lr" in one_line(errors)
    assert not (tmp_path / "run" / "best.h5").exists()


def test_scores_are_those_of_evaluate_and_go_on_after_a_kill(
    held_out: Path, tmp_path: Path
) -> None:
    recipe = (*SMALL, *RECIPE, "--epochs", 4, "--validate", 2, "--patience", 9)
    found = []
    for ranks, folder in ((1, tmp_path / "one"), (3, tmp_path / "three")):
        options = ("--data", held_out, "--out", folder, *recipe)
        if ranks == 3:
            assert struck(3, "1 8 update kill", *options)[0]
            options = (*options, "--resume")
        status, output, errors = train(ranks, *options)
        assert status == 0, errors
        found.append([read_metrics(folder, "score"), load_weights(folder / "best.h5").sha256])
    assert found[0] == found[1]
    scores = found[0][0]
    assert [score["epoch"] for score in scores] == [2, 4]
    path = tmp_path / "score.json"
    words = (tmp_path / "one", "--data", held_out, "--shifts", 2, "--json", path)
    status, output, errors = here("dist_vgg.evaluate", *words)
    assert status == 0, errors
    result = json.loads(path.read_text())
    assert result["images"] == "held-out training"
    for prefix, model in (("", result), ("average_", result["average"])):
        assert model["accuracy"] == scores[-1][f"{prefix}accuracy"]
        assert model["loss"] == pytest.approx(scores[-1][f"{prefix}loss"], rel=1e-6)
    assert result["best"]["accuracy"] == max(score["average_accuracy"] for score in scores)
    assert set(result["shifted"]) >= {"shifts", "accuracy", "average", "best"}
    assert f"accuracy of the average over 9 shifts {result['shifted']['average']['accuracy']:.2%}" \
        in output  # fmt: skip


def test_the_test_set_is_not_for_choosing(data: Path, tmp_path: Path) -> None:
    options = ("--data", data, "--out", tmp_path / "run", *SMALL)
    cases = [
        (("--validate", 1), "are for the end only"),
        (("--patience", 1), "add --validate"),
        (("--validate", 99), "--validate 99 would never score anything"),
    ]
    refused(2, "dist_vgg.train", [((*options, *more), words) for more, words in cases])
    assert not (tmp_path / "run").exists()


def test_a_finished_average_is_audited(data: Path, tmp_path: Path) -> None:
    options = ("--data", data, "--out", tmp_path / "run", *SMALL, "--ema", 0.9)
    status, _, errors = struck(2, "0 4 update flip average", *options)
    assert status == 72
    assert "the average on rank" in errors
