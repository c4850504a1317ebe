"""Sweeps: every combination once, each with its own data, and the same command goes on."""

import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from launcher import finish, one_line, run, start, train

from dist_vgg.base.errors import UserError
from dist_vgg.data.shards import open_set
from dist_vgg.runs.config import TrainConfig
from dist_vgg.sweep import Run, as_options, axes_of, draw, label, looks, report, variants

SMALL = ("--width", 0.02, "--micro-batch", 8, "--epochs", 2, "--progress", "plain")


def sweep(*options: object) -> tuple[int, str, str]:
    return run(1, "-m", "dist_vgg.sweep", *options)


def test_all_combinations() -> None:
    found = variants(["optimizer=sgd,adam", "nesterov=true,false"])
    assert [label(v) for v in found] == [
        "optimizer sgd, nesterov true",
        "optimizer sgd, nesterov false",
        "optimizer adam, nesterov true",
        "optimizer adam, nesterov false",
    ]
    assert as_options(found[1]) == ["--optimizer", "sgd", "--no-nesterov"]
    assert variants([]) == [{}]
    assert variants(["data=a/b"]) == [{"data": "a/b"}]
    assert variants([" lr = 1, 2"]) == [{"lr": "1"}, {"lr": "2"}]
    for wrong in ("lr", "lr=", "=1", "lr=1,,2", "lr/=1", "lr/ema=1", "lr/ema=1/0,2", "lr/ema=1/"):
        with pytest.raises(UserError, match="give an option's name and values"):
            variants([wrong])
    for twice in (["lr=1", "lr=2"], ["lr/lr=1/2"], ["lr=1", "dropout/lr=0/1"]):
        with pytest.raises(UserError, match="lr varies twice"):
            variants(twice)


def test_options_that_go_together() -> None:
    found = variants(["optimizer/lr=sgd/0.01,adam/1e-4", "dropout=0,0.5"])
    assert [as_options(v) for v in found] == [
        ["--optimizer", "sgd", "--lr", "0.01", "--dropout", "0"],
        ["--optimizer", "sgd", "--lr", "0.01", "--dropout", "0.5"],
        ["--optimizer", "adam", "--lr", "1e-4", "--dropout", "0"],
        ["--optimizer", "adam", "--lr", "1e-4", "--dropout", "0.5"],
    ]


def test_means_and_deviations_are_over_the_seeds_of_a_variant() -> None:
    found = [
        dict(variant={"lr": lr}, seed=seed, minutes=2.0, images="test",
             models=dict(weights=dict(test=accuracy, sha256="ab" * 32)))
        for lr, seed, accuracy in (("1", 0, 0.5), ("2", 0, 0.9), ("1", 1, 0.6), ("2", 1, 0.9))
    ]  # fmt: skip
    text = report(found)
    assert "lr 1      2     55.00 ± 7.07" in text
    assert "lr 2      2     90.00 ± 0.00" in text
    assert '"test" is on the test images' in text
    found[0]["images"] = "held-out training"
    assert '"test" is on the held-out training or the test images' in report(found)


def test_what_some_runs_have_not_is_a_dash() -> None:
    one = dict(test=0.5, sha256="ab" * 32)
    found = [
        dict(variant={"ema": ema}, seed=0, minutes=2.0, images="test", models=models)
        for ema, models in (("0", dict(weights=one)), ("0.9", dict(weights=one, average=one)))
    ]
    for several in (found, found[::-1]):
        lines = report(several).splitlines()
        assert "average, test %" in lines[0]
        (without,) = (line for line in lines[:3] if line.startswith("ema 0 "))
        assert without.split()[-1] == "-"


def test_two_options_that_vary_are_colours_and_styles() -> None:
    together = "optimizer/lr=sgd/0.02,adam/2e-4,adagrad/1e-3"
    assert looks(axes_of([together, "dropout=0.5,0"])) == {
        "optimizer sgd, lr 0.02, dropout 0.5": (0, 0),
        "optimizer sgd, lr 0.02, dropout 0": (0, 1),
        "optimizer adam, lr 2e-4, dropout 0.5": (1, 0),
        "optimizer adam, lr 2e-4, dropout 0": (1, 1),
        "optimizer adagrad, lr 1e-3, dropout 0.5": (2, 0),
        "optimizer adagrad, lr 1e-3, dropout 0": (2, 1),
    }
    # One has colours alone, and what does not vary has no say.
    one = {"ema 0, lr 1": (0, 0), "ema 0, lr 2": (1, 0)}
    assert looks(axes_of(["ema=0", "lr=1,2"])) == one
    assert list(looks(axes_of([together])).values()) == [(0, 0), (1, 0), (2, 0)]
    assert looks([]) == {"as given": (0, 0)}
    # Too many values for styles: another option has those, and pairs come together all the same.
    found = looks(axes_of(["dropout=0.5,0", "lr=1,2,3,4,5"]))
    assert list(found)[:2] == ["dropout 0.5, lr 1", "dropout 0, lr 1"]
    assert found["dropout 0, lr 5"] == (4, 1)


@pytest.mark.parametrize(
    "given",
    [
        ["lr=1,2,3", "dropout=0,0.5"],
        ["lr=1,2,3,4,5,6,7,8,9,10"],
        ["lr=1,2,3,4,5,6,7", "seed=1,2,3,4,5", "dropout=0,0.5"],
        ["lr=1,2,3,4,5", "dropout=0,0.1,0.2,0.3,0.4"],
    ],
)
def test_no_two_lines_of_a_picture_look_alike(given: list[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = [dict(variant=variant, loss=[2.3, 0.6]) for variant in variants(given)]
    lines = drawn(tmp_path / "loss.png", found, given).axes[0].get_lines()
    assert len(lines) == len(found)
    seen = {(to_hex(line.get_color()), line.get_linestyle()) for line in lines}
    assert len(seen) == len(lines)


def to_hex(colour: object) -> str:
    from matplotlib import colors

    return colors.to_hex(colour)  # type: ignore[arg-type]


def drawn(path: Path, found: Sequence[Mapping[str, Any]], given: Sequence[str]) -> Any:
    """The figure that `draw` has written."""
    from matplotlib import pyplot

    figures: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pyplot, "close", figures.append)
        draw(path, found, axes_of(given))
    pyplot.close(figures[0])
    assert path.read_bytes().startswith(b"\x89PNG")
    return figures[0]


def test_the_picture_has_a_line_for_each_variant(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    losses = [("1", [2.0, 1.0]), ("1", [3.0, 2.0, 1.0]), ("2", [2.5, 2.4, 2.3])]
    found = [dict(variant={"lr": lr}, loss=loss) for lr, loss in losses]
    figure = drawn(tmp_path / "loss.png", found, ["lr=1,2,3"])
    lines = figure.axes[0].get_lines()
    # None is left of the third, whose runs have diverged.
    assert [line.get_label() for line in lines] == ["lr 1", "lr 2"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["lr 1", "lr 2"]
    assert lines[0].get_ydata().tolist() == [2.5, 1.5]  # one of its runs ended early


def test_the_losses_fill_the_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = [dict(variant={}, loss=[2.3, 1.0, 0.5]), dict(variant={}, loss=[2.4, 1.2, 0.52])]
    low, high = drawn(tmp_path / "loss.png", found, []).axes[0].get_ylim()
    assert low < 0.5 < 2.4 < high
    assert (2.4 - 0.5) / (high - low) > 0.85


def test_a_sweep_from_digits_to_its_tables(tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--out", out, "--seeds", "0,1", "--vary", "optimizer=sgd,adam", "--shifts", 1,
               "--held-out", 30,
               "--prepare", "--source digits --size 32 --limit 40 --shards 2")  # fmt: skip
    status, output, errors = sweep(*options, "--", *SMALL, "--ema", 0.5)
    assert status == 0, errors
    found = json.loads((out / "sweep.json").read_text())
    assert [(one["variant"]["optimizer"], one["seed"]) for one in found] == [
        ("sgd", 0), ("sgd", 1), ("adam", 0), ("adam", 1)
    ]  # fmt: skip
    digests = {one["models"]["weights"]["sha256"] for one in found}
    assert len(digests) == 4
    for one in found:
        assert len(one["loss"]) == 2
        assert set(one["models"]) == {"weights", "average"}
        assert set(one["models"]["average"]) == {
            "sha256", "test", "test, shifted", "held out", "held out, shifted"
        }  # fmt: skip
        assert one["models"]["weights"]["sha256"][:16] in output
    assert output.count("== run") == 4
    # Each seed has a subset of its own.
    sets = {
        json.loads((Path(one["folder"]) / "score.json").read_text())["dataset"] for one in found
    }
    assert len(sets) == 2

    # Again: nothing is repeated, and the tables are the same.
    status, again, errors = sweep(*options, "--", *SMALL, "--ema", 0.5)
    assert status == 0, errors
    assert "== run" not in again
    assert output.splitlines()[-12:] == again.splitlines()[-12:]
    assert any("SHA-256, weights" in line for line in again.splitlines()[-12:])

    # Another score is only another evaluation.
    wider = [{1: 2, "0,1": 0}.get(word, word) for word in options]  # type: ignore[call-overload]
    status, again, errors = sweep(*wider, "--", *SMALL, "--ema", 0.5)
    assert status == 0, errors
    assert again.count("== run") == 2
    assert "epoch 2/2" not in again

    # Other options, or other data, would be another sweep.
    other = [str(word).replace("--limit 40", "--limit 50") for word in options]
    status, _, errors = sweep(*other, "--", *SMALL, "--ema", 0.5)
    assert status == 2
    assert "holds other shards (limit 40)" in errors
    status, _, errors = sweep(*options, "--", *SMALL, "--ema", 0.6)
    assert status == 2
    assert "was trained with ema 0.5, not 0.6; choose another --out" in one_line(errors)


def test_what_has_been_evaluated_already(data: Path, tmp_path: Path) -> None:
    digest = open_set(data).digest
    one = Run({}, 0, tmp_path, data, data, [], TrainConfig())

    def found(shifts: int, **held_out: object) -> bool:
        score = dict(weights="aa", dataset=digest, shifted=dict(shifts=2))
        for name, different in (("score.json", {}), ("held-out.json", held_out)):
            (tmp_path / name).write_text(json.dumps({**score, **different}))
        return one.evaluated(shifts) is not None

    assert found(2)
    assert found(0)  # more than was asked for
    assert not found(1)
    assert not found(2, shifted={})
    assert found(0, shifted={})
    assert not found(2, weights="bb")
    assert not found(2, dataset="of other images")
    (tmp_path / "held-out.json").unlink()
    assert one.evaluated(2) is None
    alone = replace(one, held_out=None)
    assert alone.evaluated(2) is not None
    score = json.loads((tmp_path / "score.json").read_text())
    (tmp_path / "score.json").write_text(json.dumps({**score, "dataset": "of other images"}))
    assert alone.evaluated(2) is None


def test_a_folder_with_another_run_is_refused(data: Path, tmp_path: Path) -> None:
    info = open_set(data)
    one = Run({}, 0, tmp_path, data, None, [], TrainConfig())
    dataset = dict(sha256=info.digest, shards=info.shards, request=info.request)

    def check(config: TrainConfig, **dataset: object) -> None:
        content = dict(config=config.as_dict(), dataset=dataset)
        (tmp_path / "config.json").write_text(json.dumps(content))
        one.check(info)

    # What has left no step may begin anew, with other options.
    check(TrainConfig(lr=0.5), **dataset)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-00000001.h5").touch()
    check(TrainConfig(), **dataset)
    with pytest.raises(UserError, match=r"was trained with lr 0.5, not 0.01; choose another --out"):
        check(TrainConfig(lr=0.5), **dataset)
    for name, other in (("sha256", "0" * 64), ("shards", 9), ("request", "of another seed")):
        with pytest.raises(UserError, match=r"another data set, or other shards of it, than"):
            check(TrainConfig(), **{**dataset, name: other})
    with pytest.raises(UserError, match="is damaged"):
        check(TrainConfig())
    # A score stays what it is where the weights have been removed.
    (tmp_path / "checkpoints" / "step-00000001.h5").unlink()
    check(TrainConfig(lr=0.5), **dataset)
    (tmp_path / "score.json").touch()
    with pytest.raises(UserError, match=r"was trained with lr 0.5"):
        check(TrainConfig(lr=0.5), **dataset)


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
        "import os, sys; from dist_vgg.sweep import Children;"
        f"sys.exit(Children().run([sys.executable, '-c', {ask!r}, os.getpgrp()]))"
    )
    status, _, errors = run(1, "-c", code)
    assert status == 0, errors


def test_bad_input_is_one_line(data: Path, tmp_path: Path) -> None:
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
        status, _, errors = sweep(*options)
        assert status == 2, options
        assert words in one_line(errors), options


def test_held_out_images_are_not_trained_on(tmp_path: Path) -> None:
    prepare = "--source digits --size 32 --limit 1400 --shards 2"
    status, _, errors = sweep("--out", tmp_path, "--prepare", prepare, "--held-out", 100)
    assert status == 2
    assert "--held-out 100 leaves 1,337 of the 1,437 training images, too few" in one_line(errors)
    assert "for --limit 1400; hold out fewer, or set a lower --limit" in errors
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
