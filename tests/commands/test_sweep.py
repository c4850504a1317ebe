"""Sweeps: every combination once, each with its own data, and the same command goes on."""

import functools
import json
import os
import signal
import time
from pathlib import Path

import pytest
from launcher import FEW_DIGITS, finish, one_line, run, start, train

from dist_vgg.base.command_line import guarded
from dist_vgg.sweep.__main__ import main

SMALL = ("--width", 0.02, "--micro-batch", 8, "--epochs", 2, "--progress", "plain")


def sweep(*options: object) -> tuple[int, str, str]:
    return run(1, "-m", "dist_vgg.sweep", *options, first=[FEW_DIGITS])


def test_a_sweep_from_digits_to_its_tables(tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepared = ("--out", out, "-n", 1, "--held-out", 30,
                "--prepare", "--source digits --size 32 --limit 40 --shards 2")  # fmt: skip
    options = (*prepared, "--seeds", "0,1", "--vary", "optimizer=adam")
    status, output, errors = sweep(*options, "--", *SMALL, "--ema", 0.5)
    assert status == 0, errors
    found = json.loads((out / "sweep.json").read_text())
    assert [(one["variant"]["optimizer"], one["seed"]) for one in found] == [
        ("adam", 0), ("adam", 1)
    ]  # fmt: skip
    digests = {one["models"]["weights"]["sha256"] for one in found}
    assert len(digests) == 2
    for one in found:
        assert len(one["loss"]) == 2
        assert set(one["models"]) == {"weights", "average"}
        assert set(one["models"]["average"]) == {"sha256", "test", "held out"}
        assert one["models"]["weights"]["sha256"][:16] in output
    assert output.count("== run") == 2
    # Each seed has a subset of its own.
    sets = {
        json.loads((Path(one["folder"]) / "score.json").read_text())["dataset"] for one in found
    }
    assert len(sets) == 2

    # Again: nothing is repeated, and the tables are the same.
    status, again, errors = sweep(*options, "--", *SMALL, "--ema", 0.5)
    assert status == 0, errors
    assert "== run" not in again
    assert output.splitlines()[-8:] == again.splitlines()[-8:]
    assert any("SHA-256, weights" in line for line in again.splitlines()[-8:])

    # Another score is only another evaluation.
    shifted = (*prepared, "--seeds", 1, "--vary", "optimizer=adam", "--shifts", 1)
    status, again, errors = sweep(*shifted, "--", *SMALL, "--ema", 0.5)
    assert status == 0, errors
    assert again.count("== run") == 1
    assert "epoch 2/2" not in again
    (one,) = json.loads((out / "sweep.json").read_text())
    assert set(one["models"]["average"]) == {
        "sha256", "test", "test, shifted", "held out", "held out, shifted"
    }  # fmt: skip

    # Other options, or other data, would be another sweep.
    other = [str(word).replace("--limit 40", "--limit 50") for word in options]
    status, _, errors = sweep(*other, "--", *SMALL, "--ema", 0.5)
    assert status == 2
    assert "holds other shards (limit 40)" in errors
    status, _, errors = sweep(
        *prepared, "--seeds", 0, "--vary", "optimizer=adam", "--", *SMALL, "--ema", 0.6
    )
    assert status == 2
    assert "was trained with ema 0.5, not 0.6; choose another --out" in one_line(errors)


def test_other_options_are_refused_before_anything_is_trained(data: Path, tmp_path: Path) -> None:
    options = ("--data", data, *SMALL)
    status, _, errors = train(1, *options, "--out", tmp_path / "seed-0", "--dropout", 0)
    assert status == 0, errors
    status, output, errors = sweep("--out", tmp_path, "--seeds", "1,0", "--", *options)
    assert status == 2
    assert "seed-0 was trained with dropout 0.0, not 0.5" in one_line(errors)
    assert "== run" not in output


def test_a_sweep_that_was_stopped_goes_on(data: Path, tmp_path: Path) -> None:
    options = ("-m", "dist_vgg.sweep", "--out", tmp_path / "out", "--seeds", "3,4", "--",
               "--data", data, *SMALL, "--epochs", 200, "--checkpoint-every", 10**6)  # fmt: skip
    process = start(1, *options)
    metrics = tmp_path / "out" / "seed-3" / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") > 5):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    status, _, errors = run(1, *options)
    assert status == 2
    assert "another dist_vgg.sweep is at work in" in one_line(errors)
    process.send_signal(signal.SIGTERM)
    status, output, errors = finish(process)
    assert status == 128 + signal.SIGTERM
    assert "the same command goes on" in one_line(errors.splitlines()[-1])
    done = len(metrics.read_text().splitlines())
    process = start(1, *options)
    while len(metrics.read_text().splitlines()) < done + 5:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    status, output, _ = finish(process)
    assert status == 128 + signal.SIGINT
    assert "resumed at step" in output
    assert "elastic: stopped by Ctrl-C after step" in output
    assert "SIGUSR1" not in output  # which is how the ranks were told
    # The step was finished and saved.
    step = max(json.loads(line)["step"] for line in metrics.read_text().splitlines())
    assert f"after step {step}" in output
    assert (metrics.parent / "checkpoints" / f"step-{step:08d}.h5").exists()


def test_ctrl_c_of_a_terminal_reaches_a_command_once() -> None:
    # It goes to the terminal's process group, and we pass it on: the command is in another.
    ask = "import os, sys; sys.exit(os.getpgrp() == int(sys.argv[1]))"
    code = (
        "import os, sys; from dist_vgg.sweep.processes import CommandRunner;"
        f"sys.exit(CommandRunner().run([sys.executable, '-c', {ask!r}, os.getpgrp()]))"
    )
    status, _, errors = run(1, "-c", code)
    assert status == 0, errors


def test_bad_input_is_one_line(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("--out", tmp_path / "out")
    for options, words in [
        ((), "--out"),
        ((*out, "--limit", 9), "--limit is an option of train: those go behind --, as in: --out"),
        ((*out, "--seed", 1), "unknown option --seed; did you mean --seeds?"),
        ((*out, "--vary", "lrr=1,2"), "unknown option --lrr; did you mean --lr?"),
        ((*out, "--vary", "dropout=0,7"), "--dropout 7.0 is out of range"),
        ((*out, "--seeds", "0,x"), "--seeds: must be whole numbers with commas between, not 0,x"),
        ((*out, "--prepare", "--limit '9"), "--prepare --limit '9: No closing quotation"),
        ((*out, "-n", 0), "-n 0"),
        ((*out, "--prepare", "'"), "--prepare"),
        ((*out, "--held-out", 9), "together with --prepare"),
        ((*out, "--held-out", 9, "--prepare", ""), "leave some images for it, with --limit N"),
        (
            (*out, "--held-out", 9, "--prepare", "--limit 9 --held-out=5"),
            "leave out --held-out in --prepare",
        ),
        ((*out, "--prepare", "--seed 5"), "leave out --seed in --prepare: that is what --seeds"),
        ((*out, "--prepare", "--out x"), "leave out --out in --prepare"),
        ((*out, "--", "--seed", 5), "leave out --seed for train: that is what --seeds is for"),
        ((*out, "--vary", "out=a,b"), "leave out --out"),
        ((*out, "--prepare", "", "--", "--data", data), "leave out --data"),
        ((*out, "--vary", "lr=1,1"), "would be there twice"),
        ((*out, "--shifts", 32, "--", "--data", data), "--shifts 32 is out of range"),
        ((*out, "--", "--data", tmp_path / "none"), "no data folder"),
        ((*out, "--plot", tmp_path / "x.gif"), "name a .png"),
        ((*out, "--", "--resume"), "leave out --resume"),
        ((*out, "--", "--config", tmp_path / "no.toml"), "can't read --config"),
    ]:
        argv = list(map(str, options))
        assert guarded("dist_vgg.sweep", functools.partial(main, argv)) == 2, options
        assert words in one_line(capsys.readouterr().err), options


def test_held_out_images_are_not_trained_on(tmp_path: Path) -> None:
    prepare = "--source digits --size 32 --limit 200 --shards 2"
    status, _, errors = sweep("--out", tmp_path, "--prepare", prepare, "--held-out", 100)
    assert status == 2
    assert "--held-out 100 leaves 140 of the 240 training images, too few" in one_line(errors)
    assert "for --limit 200; hold out fewer, or set a lower --limit" in errors
    assert not list(tmp_path.iterdir())  # so that a mended command works


def test_one_that_diverges_does_not_keep_the_others_from_the_table(
    data: Path, tmp_path: Path
) -> None:
    status, output, errors = sweep(
        "--out", tmp_path, "--vary", "lr=1e30,0.01", "--", "--data", data, *SMALL, "--clip", 0,
        "--warmup", 0,
    )  # fmt: skip
    assert status == 70, errors
    assert output.endswith("diverged: lr 1e30, seed 0\n")
    (found,) = json.loads((tmp_path / "sweep.json").read_text())
    assert found["variant"] == {"lr": "0.01"}
