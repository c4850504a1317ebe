"""Training: the same bits however many ranks, whichever route, stopped or not."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import launcher
import pytest
from launcher import field, one_line, train
from lies import say
from sets import each_set
from threadpoolctl import threadpool_info
from training import EPOCHS, INSIDE, SMALL, outcome, struck, wait_for_step

from dist_vgg.base.errors import signal_name
from dist_vgg.runs.clock import SPANS
from dist_vgg.runs.log import read_metrics
from dist_vgg.state.checkpoint import load_newest, load_weights, save_checkpoint


@each_set
@pytest.mark.parametrize(
    ("ranks", "route"),
    [(-1, "flat"), (2, "flat"), (2, "node"), (3, "flat"), (3, "node"), (4, "auto"), (8, "flat"),
     (8, "node")],
)  # fmt: skip
def test_same_bits_at_any_ranks_and_route(
    small: tuple[object, ...], ranks: int, route: str, data: Path, reference: Path, tmp_path: Path
) -> None:
    options = ("--data", data, "--out", tmp_path / "run", "--route", route)
    status, output, errors = train(ranks, *options, *small, *EPOCHS)
    assert status == 0, errors
    assert outcome(tmp_path / "run") == outcome(reference)
    shown = {"auto": "node"}.get(route, route)
    assert f"route {shown}" in output


@each_set
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
def test_same_bits_with_other_recipes(
    small: tuple[object, ...], recipe: tuple[Any, ...], data: Path, tmp_path: Path
) -> None:
    for ranks in (1, 5):
        options = ("--data", data, "--out", tmp_path / str(ranks), "--epochs", 1)
        status, _, errors = train(ranks, *options, *small, *recipe)
        assert status == 0, errors
    assert outcome(tmp_path / "1") == outcome(tmp_path / "5")


def test_the_rate_is_scaled_and_warmed_up_by_epochs(data: Path, tmp_path: Path) -> None:
    options = ("--lr", 0.01, "--lr-batch", 12, "--warmup-epochs", 1, "--schedule", "constant")
    where = ("--data", data, "--out", tmp_path)
    status, output, errors = train(2, *where, *SMALL, *EPOCHS, *options)
    assert status == 0, errors
    assert "lr 0.02 (0.01 at batch 12) constant, 6 steps in 2 epochs" in output
    rates = [record["lr"] for record in read_metrics(tmp_path, "step")]
    assert rates == pytest.approx([0.02 / 3, 0.04 / 3, 0.02, 0.02, 0.02, 0.02])


def test_it_learns(data: Path, tmp_path: Path) -> None:
    options = ("--width", 0.1, "--micro-batch", 2, "--epochs", 30, "--optimizer", "adam")
    status, _, errors = train(
        2, "--data", data, "--out", tmp_path / "run", "--lr", 1e-3, "--progress", "none", *options
    )
    assert status == 0, errors
    epochs = read_metrics(tmp_path / "run", "epoch")
    assert epochs[0]["accuracy"] < 0.5
    assert epochs[-1]["accuracy"] > 0.8


@each_set
@pytest.mark.parametrize(("ranks", "later"), [(3, 8), (1, 2)])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_stopped_and_resumed_is_never_stopped(
    small: tuple[object, ...],
    ranks: int,
    later: int,
    number: signal.Signals,
    data: Path,
    tmp_path: Path,
    reference: Path,
) -> None:
    folder = tmp_path / "run"
    # Slow steps, so that the signal comes in the middle of the run.
    process = launcher.start(
        ranks, INSIDE / "slow_train.py", "--data", data, "--out", folder, *small, *EPOCHS
    )
    wait_for_step(folder, 2)
    process.send_signal(number)
    status, output, errors = launcher.finish(process)
    assert status != 0
    assert f"stopped by {signal_name(number)} after step" in output, output + errors
    assert f"--resume --out {folder}" in output
    assert "Traceback" not in errors
    done = len(read_metrics(folder, "step"))
    assert 2 <= done < len(read_metrics(reference, "step"))
    status, output, errors = train(later, "--resume", "--out", folder)
    assert status == 0, errors
    assert f"resumed at step {done}" in output
    assert outcome(folder) == outcome(reference)


@pytest.mark.parametrize("moment", ["agree", "share"])
def test_signal_to_one_rank_stops_all_at_the_same_step(
    moment: str, data: Path, tmp_path: Path
) -> None:
    options = ("--data", data, "--out", tmp_path / "run", *SMALL, *EPOCHS)
    status, output, errors = launcher.run(3, INSIDE / "signalled_train.py", moment, *options)
    assert status == 128 + signal.SIGUSR1, errors
    assert "stopped by SIGUSR1 after step 3 of 6" in output


@pytest.mark.parametrize("ranks", [1, 3])
def test_the_head_of_a_run_says_how_to_stop_it(ranks: int, data: Path, tmp_path: Path) -> None:
    run = ("--data", data, "--out", tmp_path / "run", *SMALL, "--epochs", 50)
    process = launcher.start(ranks, INSIDE / "slow_train.py", *run)
    assert process.stdout
    head = next(line for line in process.stdout if line.startswith("stop "))
    wait_for_step(tmp_path / "run", 1)
    subprocess.run(shlex.split(head.split(maxsplit=1)[1].partition(" (")[0]), check=True)
    status, output, errors = launcher.finish(process)
    assert status == 128 + signal.SIGUSR1, errors
    assert "stopped by SIGUSR1 after step" in output


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("moment", ["mpi", "shards", "memory"])
def test_a_signal_at_the_start_is_not_lost(
    ranks: int, moment: str, data: Path, tmp_path: Path, reference: Path
) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, *EPOCHS)
    status, output, errors = launcher.run(ranks, INSIDE / "early_train.py", moment, *run)
    assert status == 128 + signal.SIGUSR1, errors
    assert output.count("SIGUSR1: saving after this step, then stopping") == 1
    assert "stopped by SIGUSR1 after step 1 of 6, saved" in output
    status, _, errors = train(2, "--resume", "--out", folder)
    assert status == 0, errors
    assert outcome(folder) == outcome(reference)


@pytest.mark.alone
@pytest.mark.parametrize("ranks", [1, 3])
def test_a_batch_system_that_tells_everybody_is_heard_once(
    ranks: int, data: Path, tmp_path: Path, reference: Path
) -> None:
    folder = tmp_path / "run"
    process = launcher.start(
        ranks, INSIDE / "slow_train.py", "--data", data, "--out", folder, *SMALL, *EPOCHS
    )
    wait_for_step(folder, 2)
    pids = [int(path.name) for path in (folder / "pids").iterdir()]
    # Slurm's, its launcher's, and then the supervisor's
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1):
        for pid in pids:
            os.kill(pid, number)
        time.sleep(0.03)  # less than a step, but two at once would be one
    status, output, errors = launcher.finish(process)
    assert status == 128 + signal.SIGTERM, errors
    assert "stopped by SIGTERM after step" in output
    done = len(read_metrics(folder, "step"))
    assert (folder / "checkpoints" / f"step-{done:08d}.h5").exists()
    assert train(2, "--resume", "--out", folder)[0] == 0
    assert outcome(folder) == outcome(reference)


@pytest.mark.alone
@pytest.mark.parametrize("ranks", [1, 3])
def test_ctrl_c_twice_leaves_nothing(
    ranks: int, data: Path, tmp_path: Path, memory: set[Path]
) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, "--epochs", 99)
    process = launcher.start(ranks, INSIDE / "slow_train.py", *run)
    wait_for_step(folder, 2)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    time.sleep(0.05)  # less than a step
    os.killpg(process.pid, signal.SIGINT)
    status, output, errors = launcher.finish(process, timeout=20)
    # MPICH's mpirun may end with 0 where its second Ctrl-C comes while it ends its ranks.
    assert status != 0 or ranks > 1
    assert memory
    assert not [path for path in memory if path.exists()], (status, output, errors)
    assert not [path for path in folder.rglob("*") if path.name.endswith(".partial")]


@pytest.mark.alone
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_terminal_that_goes_away_is_a_signal_to_save(
    ranks: int, data: Path, tmp_path: Path, reference: Path
) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, *EPOCHS, "--progress", "live")
    process = launcher.start(ranks, INSIDE / "slow_train.py", *run)
    wait_for_step(folder, 2)
    assert process.stdout
    process.stdout.close()
    for path in (folder / "pids").iterdir():
        os.kill(int(path.name), signal.SIGHUP)
    assert process.wait(timeout=20) == 128 + signal.SIGHUP
    done = len(read_metrics(folder, "step"))
    assert (folder / "checkpoints" / f"step-{done:08d}.h5").exists()
    assert train(3, "--resume", "--out", folder)[0] == 0
    assert outcome(folder) == outcome(reference)


def test_resume_if_any_begins_where_there_is_nothing(data: Path, tmp_path: Path) -> None:
    options = ("--data", data, "--out", tmp_path / "run", *SMALL, "--epochs", 1)
    for words in ("epoch 1/1", "resumed at step 3 of 3"):
        status, output, errors = train(2, *options, "--progress", "plain", "--resume", "if-any")
        assert status == 0, errors
        assert words in output


def test_without_standby_nothing_is_kept(data: Path, tmp_path: Path, reference: Path) -> None:
    folder = tmp_path / "run"
    for standby in (("--standby", "off"), ("--no-audit",)):
        shutil.rmtree(folder, ignore_errors=True)
        run = ("--data", data, "--out", folder, *SMALL, *EPOCHS, *standby)
        struck(3, "1 4 forward kill", *run)
        status, output, errors = train(2, "--resume", "--out", folder)
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
    status, _, errors = train(2, "--data", data, "--out", folder, *SMALL, *EPOCHS, *options)
    assert status == 0, errors
    assert len(list((folder / "checkpoints").iterdir())) == 6


@pytest.mark.alone
def test_a_second_signal_ends_at_once_and_leaves_nothing(
    data: Path, tmp_path: Path, memory: set[Path]
) -> None:
    folder = tmp_path / "run"
    process = launcher.start(
        1, INSIDE / "slow_train.py", "--data", data, "--out", folder, *SMALL, "--epochs", 99
    )
    wait_for_step(folder, 2)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    status, output, errors = launcher.finish(process, timeout=30)
    assert status == 128 + signal.SIGTERM
    assert "Traceback" not in errors
    assert memory
    assert not [path for path in memory if path.exists()], (output, errors)
    assert not list(folder.glob("**/.*"))


def test_exception_on_one_rank_ends_the_job_with_its_name(data: Path, tmp_path: Path) -> None:
    options = ("--data", data, "--out", tmp_path / "run", *SMALL, *EPOCHS)
    status, _, errors = launcher.run(3, INSIDE / "failing_train.py", *options)
    assert status != 0
    assert "rank 1 on " in errors
    assert "ZeroDivisionError: made to fail" in errors


def test_nan_names_step_layer_and_rank(data: Path, tmp_path: Path) -> None:
    options = ("--data", data, "--out", tmp_path / "run", *SMALL, *EPOCHS)
    status, _, errors = train(3, *options, "--lr", 1e30, "--clip", 0, "--warmup", 0)
    assert status == 70
    line = one_line(errors)
    assert "step 2" in line
    assert "the output of layer conv1_" in line
    assert "on rank 0" in line


@pytest.mark.parametrize("ranks", [1, 3])
def test_what_explodes_has_diverged(ranks: int, data: Path, tmp_path: Path) -> None:
    """It had ended with a loss of 2e32 and status 0, since no number was Inf."""
    options = ("--data", data, "--out", tmp_path / "run", *SMALL, *EPOCHS)
    status, output, errors = train(ranks, *options, "--lr", 100, "--warmup", 0)
    assert status == 70, output
    assert "training has diverged: the loss is " in one_line(errors)
    assert not (tmp_path / "run" / "weights.h5").exists()


def test_nan_of_one_rank_names_that_rank(data: Path, tmp_path: Path) -> None:
    options = ("--data", data, "--out", tmp_path / "run", *SMALL, *EPOCHS)
    status, _, errors = launcher.run(3, INSIDE / "poisoned_train.py", *options)
    assert status == 70
    assert "step 1: NaN or Inf first seen in the output of layer conv1_1 on rank 2" in errors


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


def test_debug_names_the_layer_of_a_nan(data: Path, tmp_path: Path) -> None:
    options = ("--data", data, "--out", tmp_path / "run", *SMALL, *EPOCHS)
    status, _, errors = train(1, "--debug", *options, "--lr", 1e30, "--clip", 0, "--warmup", 0)
    assert status == 70
    assert "in the output of layer conv1_" in one_line(errors)


def test_pdb_stops_at_the_failing_line(data: Path, tmp_path: Path) -> None:
    options = ("--debug", "--pdb", "--data", data, "--out", tmp_path / "run", *SMALL, *EPOCHS)
    done = subprocess.run(
        launcher.command(1, INSIDE / "failing_train.py", *options),
        input="p 6 * 7\nq\n",
        text=True,
        capture_output=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(launcher.ROOT)},
    )
    assert "ZeroDivisionError: made to fail" in done.stdout
    assert "(Pdb) 42" in done.stdout


@each_set
def test_finished_run_resumes_to_nothing(
    small: tuple[object, ...], data: Path, tmp_path: Path, reference: Path
) -> None:
    folder = shutil.copytree(reference, tmp_path / "run")
    status, output, errors = train(2, "--resume", "--out", folder)
    assert status == 0, errors
    assert field(output, "parameters") == load_weights(reference).sha256
    assert outcome(folder) == outcome(reference)
    assert field(output, "steps") == "6, finished already: nothing was left to do"
    assert "images/s" not in output


def test_one_rank_has_one_figure_of_memory(data: Path, tmp_path: Path) -> None:
    """Of two, "of all" had been the smaller one."""
    for ranks, words in ((1, r"([\d.]+) GiB"), (2, r"([\d.]+) GiB of the .*, ([\d.]+) GiB of all")):
        options = ("--data", data, "--out", tmp_path / str(ranks), *SMALL, "--epochs", 1)
        status, output, errors = train(ranks, *options)
        assert status == 0, errors
        found = re.fullmatch(words, field(output, "memory"))
        assert found
        assert sorted(map(float, found.groups())) == list(map(float, found.groups()))


def test_damaged_checkpoint_is_passed_over(data: Path, tmp_path: Path, reference: Path) -> None:
    folder = shutil.copytree(reference, tmp_path / "run")
    newest, before = sorted((folder / "checkpoints").iterdir(), reverse=True)
    newest.write_bytes(newest.read_bytes()[:5000])
    status, output, errors = train(3, "--resume", "--out", folder)
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
    status, _, errors = train(2, "--resume", "--out", folder)
    assert status == 2
    assert "does not belong to the network and optimizer that it names" in one_line(errors)


def test_bad_starts_are_one_line(data: Path, tmp_path: Path, reference: Path) -> None:
    nowhere = tmp_path / "nowhere"
    toml = tmp_path / "recipe.toml"
    toml.write_text("epohcs = 3\n")
    cases: list[tuple[tuple[Any, ...], str]] = [
        (("--data", nowhere), f"no data folder {nowhere}; make one with: python -m data_prep"),
        (("--data", tmp_path), f"no shards in {tmp_path}; make them with: python -m data_prep"),
        (("--epohcs", 3), "unknown option --epohcs; did you mean --epochs?"),
        (("--lr", -1), "--lr -1.0 is out of range: it must be at least 0"),
        (("--config", toml), "unknown option epohcs; did you mean epochs?"),
        (("--data", data, "--out", reference), f"{reference} holds a run already"),
        (("--resume", "--out", nowhere), f"nothing to resume in {nowhere}"),
        (("--resume", "--out", reference, "--width", 0.5), "--width 0.5 contradicts"),
        (("--resume", "--out", reference, "--epochs", 9), "cosine spreads its rates over"),
        (("--debug", "--data", data), "--debug is one process"),
        (("--pdb", "--data", data), "--pdb goes with --debug"),
        (("--data", data, "--out", toml / "run"), "can't make the run's folder"),
    ]
    for options, words in cases:
        ranks = 1 if "--pdb" in options else 2
        status, _, errors = train(ranks, *options)
        assert status == 2, (options, errors)
        assert words in one_line(errors)
    assert not nowhere.exists()


def test_more_ranks_than_shards(data: Path) -> None:
    status, _, errors = train(9, "--data", data)
    assert status == 2
    assert "9 ranks for 8 shards" in one_line(errors)
    assert "start at most 8 ranks" in errors


def test_other_data_set_on_resume(data: Path, tmp_path: Path, reference: Path) -> None:
    other = shutil.copytree(data, tmp_path / "other")
    for path in other.iterdir():
        say(path, digest="0" * 64)
    status, _, errors = train(2, "--resume", "--out", reference, "--data", other)
    assert status == 2
    assert "another data set" in one_line(errors)


def test_other_shards_of_the_same_images_on_resume(
    data: Path, tmp_path: Path, reference: Path
) -> None:
    other = shutil.copytree(data, tmp_path / "other")
    for path in other.iterdir():
        say(path, request='{"seed": 1}')
    status, _, errors = train(2, "--resume", "--out", reference, "--data", other)
    assert status == 2
    assert "the same images in 8 others" in one_line(errors)


def test_longer_constant_run_is_the_one_never_stopped(data: Path, tmp_path: Path) -> None:
    options = ("--data", data, *SMALL, "--schedule", "constant", "--warmup", 10)
    for name, epochs in (("short", 1), ("long", 2)):
        status, _, errors = train(2, *options, "--out", tmp_path / name, "--epochs", epochs)
        assert status == 0, errors
    status, _, errors = train(3, "--resume", "--out", tmp_path / "short", "--epochs", 2)
    assert status == 0, errors
    assert outcome(tmp_path / "short") == outcome(tmp_path / "long")
    stored = json.loads((tmp_path / "short" / "config.json").read_text())
    assert [start["ranks"] for start in (stored, *stored["resumed"])] == [2, 3]
    status, _, errors = train(2, "--resume", "--out", tmp_path / "short", "--epochs", 1)
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


def test_seconds_of_each_step_are_its_own(reference: Path) -> None:
    for record in read_metrics(reference, "step"):
        seconds = record["seconds"]
        assert list(seconds) == list(SPANS)
        # Every part of a step takes some time, and together they are the step.
        assert all(seconds[name] > 0 for name in SPANS)
        images = record["images_per_s"] * sum(seconds.values())
        assert images == pytest.approx(round(images), rel=1e-3)


@pytest.mark.parametrize("harm", ["missing", "short", "flipped"])
def test_harmed_shard_is_named(harm: str, data: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(data, tmp_path / "data")
    path = copy / "train-00006-of-00008.h5"
    if harm == "missing":
        path.unlink()
    elif harm == "short":
        path.write_bytes(path.read_bytes()[:3000])
    else:
        with h5py.File(path) as file:
            place = file["pixels"].id.get_chunk_info(0).byte_offset
        content = bytearray(path.read_bytes())
        content[place + 100] ^= 1
        path.write_bytes(content)
    status, _, errors = train(3, "--data", copy, "--out", tmp_path / "run", *SMALL)
    assert status == 2
    assert str(path) in one_line(errors)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("ranks", [1, 3])
def test_full_disk_is_one_line_at_the_end(ranks: int, data: Path, tmp_path: Path) -> None:
    options = ("--data", data, "--out", tmp_path / "run", *SMALL, *EPOCHS, "--route", "flat")
    status, output, errors = launcher.run(ranks, INSIDE / "small_files_train.py", *options)
    assert status == 2, errors
    assert "standby none: can't use /dev/shm/" in output
    assert output.count("warning: can't write a checkpoint to") == 1
    assert "training goes on" in output
    assert "can't write a checkpoint to" in one_line(errors)
    assert len(read_metrics(tmp_path / "run", "step")) == 6
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


@pytest.mark.parametrize("ranks", [2, 3])
def test_little_shared_memory(ranks: int, data: Path, tmp_path: Path, reference: Path) -> None:
    (shm := tmp_path / "shm").mkdir()
    run = (shm, "--data", data, "--out", tmp_path / "run", *SMALL, *EPOCHS)
    status, _, errors = launcher.run(
        ranks, INSIDE / "little_memory_train.py", *run, "--route", "node"
    )
    assert status == 2, errors
    assert "--route node needs" in one_line(errors)
    assert not (tmp_path / "run").exists()
    status, output, errors = launcher.run(ranks, INSIDE / "little_memory_train.py", *run)
    assert status == 0, errors
    assert "route flat" in output
    assert "standby none: " in output
    assert outcome(tmp_path / "run") == outcome(reference)
    assert not list(shm.iterdir())


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
