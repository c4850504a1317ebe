"""A run goes on from its checkpoints, and from no others."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from launcher import field, one_line, train
from lies import say
from training import EPOCHS, SMALL, outcome, refused, struck

from dist_vgg.runs.log import read_metrics
from dist_vgg.state.checkpoint import load_newest, save_checkpoint
from dist_vgg.state.weights import load_weights


def test_resume_if_any_begins_where_there_is_nothing(data: Path, tmp_path: Path) -> None:
    options = ("--data", data, "--out", tmp_path / "run", *SMALL, "--epochs", 1)
    for words in ("epoch 1/1", "resumed at step 3 of 3"):
        status, output, errors = train(1, *options, "--progress", "plain", "--resume", "if-any")
        assert status == 0, errors
        assert words in output


def test_without_standby_nothing_is_kept(data: Path, tmp_path: Path, reference: Path) -> None:
    folder = tmp_path / "run"
    for standby in (("--standby", "off"), ("--no-audit",)):
        shutil.rmtree(folder, ignore_errors=True)
        run = ("--data", data, "--out", folder, *SMALL, *EPOCHS, *standby)
        struck(3, "1 4 forward kill", *run)
        status, output, errors = train(1, "--resume", "--out", folder)
        assert status == 0, errors
        assert "resumed at step 3 of 6, epoch 2, from the checkpoint" in output
        assert load_weights(folder).sha256 == load_weights(reference).sha256


def test_a_checkpoint_that_cant_be_written_is_tried_again(
    data: Path, tmp_path: Path, reference: Path
) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, *EPOCHS, "--checkpoint-every", 1)
    status, output, errors = struck(3, "0 2 save full", *run)
    assert status == 0, errors
    assert output.count("warning: can't write a checkpoint to") == 1
    assert "No space left on device" in output
    assert outcome(folder) == outcome(reference)


def test_checkpoints_by_the_clock(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = ("--checkpoint-every", 100, "--checkpoint-minutes", 1e-6, "--keep", 9)
    status, _, errors = train(1, "--data", data, "--out", folder, *SMALL, *EPOCHS, *options)
    assert status == 0, errors
    assert len(list((folder / "checkpoints").iterdir())) == 6


def test_finished_run_resumes_to_nothing(tmp_path: Path, reference: Path) -> None:
    folder = shutil.copytree(reference, tmp_path / "run")
    status, output, errors = train(2, "--resume", "--out", folder)
    assert status == 0, errors
    assert field(output, "parameters") == load_weights(reference).sha256
    assert outcome(folder) == outcome(reference)
    assert field(output, "steps") == "6, finished already: nothing was left to do"
    assert "images/s" not in output


def test_damaged_checkpoint_is_passed_over(data: Path, tmp_path: Path, reference: Path) -> None:
    folder = shutil.copytree(reference, tmp_path / "run")
    newest, before = sorted((folder / "checkpoints").iterdir(), reverse=True)
    newest.write_bytes(newest.read_bytes()[:5000])
    status, output, errors = train(2, "--resume", "--out", folder)
    assert status == 0, errors
    assert f"checkpoint {newest} is damaged" in output
    assert outcome(folder) == outcome(reference)
    before.unlink()


@pytest.mark.parametrize("change", ["params", "state", "epoch"])
def test_a_checkpoint_that_contradicts_itself_is_refused(
    change: str, data: Path, tmp_path: Path, reference: Path
) -> None:
    folder = shutil.copytree(reference, tmp_path / "run")
    state = load_newest(folder / "checkpoints", print)
    other = dict(
        params=dict(params=state.params[:9], state={"momentum": state.params[:9]}),
        state=dict(state={"velocity": state.state["momentum"]}),
        epoch=dict(epoch={"lost": 1.0}),
    )
    save_checkpoint(folder / "checkpoints", replace(state, **other[change]), 1)
    status, _, errors = train(1, "--resume", "--out", folder)
    assert status == 2
    assert "does not belong to the network and optimizer that it names" in one_line(errors)


def test_another_data_set_or_its_images_in_other_shards_are_refused(
    data: Path, tmp_path: Path, reference: Path
) -> None:
    other = shutil.copytree(data, tmp_path / "other")
    for path in other.iterdir():
        say(path, digest="0" * 64)
    dealt = shutil.copytree(data, tmp_path / "dealt")
    for path in dealt.iterdir():
        say(path, request='{"seed": 1}')
    resume = ("--resume", "--out", reference, "--data")
    cases = [
        ((*resume, other), "another data set"),
        ((*resume, dealt), "the same images in 8 others"),
    ]
    refused(2, "dist_vgg.train", cases)


def test_longer_constant_run_is_the_one_never_stopped(data: Path, tmp_path: Path) -> None:
    options = ("--data", data, *SMALL, "--schedule", "constant", "--warmup", 10)
    for name, epochs in (("short", 1), ("long", 2)):
        status, _, errors = train(1, *options, "--out", tmp_path / name, "--epochs", epochs)
        assert status == 0, errors
    status, _, errors = train(3, "--resume", "--out", tmp_path / "short", "--epochs", 2)
    assert status == 0, errors
    assert outcome(tmp_path / "short") == outcome(tmp_path / "long")
    stored = json.loads((tmp_path / "short" / "config.json").read_text())
    assert [start["ranks"] for start in (stored, *stored["resumed"])] == [1, 3]
    status, _, errors = train(1, "--resume", "--out", tmp_path / "short", "--epochs", 1)
    assert status == 2
    assert "--epochs 1 is 3 steps, and" in one_line(errors)
    assert "has done 6; give it more epochs to go on" in errors
    assert json.loads((tmp_path / "short" / "config.json").read_text()) == stored


def test_run_that_never_came_to_a_checkpoint_may_be_started_again(
    data: Path, tmp_path: Path
) -> None:
    options = ("--data", data, "--out", tmp_path / "run", *SMALL, "--epochs", 1)
    status, _, _ = train(1, *options, "--lr", 1e30, "--clip", 0, "--warmup", 0)
    assert status == 70
    status, _, errors = train(1, *options)
    assert status == 0, errors
    assert len(read_metrics(tmp_path / "run", "step")) == 3
