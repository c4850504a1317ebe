"""fit: the bits of the train command, at any number of ranks; callbacks; a clean end."""

import gc
import json
import signal
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import launcher
import numpy as np
import pytest
from sets import each_set
from threadpoolctl import threadpool_limits
from training import INSIDE, SHM, SMALL, small_options

from dist_vgg import Dataset, Diverged, Model, TrainConfig, UserError, fit, load
from dist_vgg.api import fit as module
from dist_vgg.base import machine
from dist_vgg.base.errors import RankError
from dist_vgg.runs.log import read_metrics
from dist_vgg.state.weights import load_weights
from dist_vgg.training.trainer import Trainer

CONFIG = TrainConfig(**small_options())


def learnable(count: int, shards: int) -> Dataset:
    """Images like those of the fixture `data`."""
    rng = np.random.default_rng(count)
    images, labels = rng.integers(0, 60, (count, 32, 32), np.uint8), np.arange(count) % 10
    for image, label in zip(images, labels, strict=True):
        image[3 * label : 3 * label + 4] += 150
    return Dataset(images, labels, shards=shards)


def test_one_process_computes_what_the_command_does(data: Path, reference: Path) -> None:
    steps: list[dict[str, Any]] = []
    epochs: list[dict[str, Any]] = []
    with threadpool_limits(2, user_api="blas"):
        model = fit(
            Dataset.open(data),
            CONFIG,
            on_step=lambda record, _: steps.append(record),
            on_epoch=lambda record, _: epochs.append(record),
        )
        assert max(machine.blas_threads()) == 2  # another test may have loaded another BLAS
    assert model.sha256 == load_weights(reference).sha256
    for kind, records in (("step", steps), ("epoch", epochs)):
        for ours, theirs in zip(records, read_metrics(reference, kind), strict=True):
            same = set(theirs) - {"kind", "seconds", "images_per_s"}
            assert {name: ours[name] for name in same} == {name: theirs[name] for name in same}


@each_set
def test_a_model_has_the_kernels_that_trained_it(kernels: str, tmp_path: Path) -> None:
    seen: list[str] = []
    config = replace(CONFIG, kernels=kernels, epochs=1)
    model = fit(learnable(8, 2), config, on_epoch=lambda _, m: seen.append(m._net.ops.NAME))
    assert [*seen, model._net.ops.NAME] == [kernels, kernels]
    model.save(tmp_path / "weights.h5")
    weights = load_weights(tmp_path / "weights.h5")
    assert (weights.kernels, weights.kernels_version) == (kernels, model._net.ops.VERSION)


@pytest.mark.parametrize("route", ["flat", "node"])
def test_three_ranks_compute_the_same_and_know_it_all(
    route: str, data: Path, reference: Path
) -> None:
    options = json.dumps(dict(small_options(), route=route))
    script = INSIDE / "fit_from_python.py"
    status, output, errors = launcher.run(3, "-m", "mpi4py", script, data, options)
    assert status == 0, errors
    model = load(reference)
    score = model.score(Dataset.open(data, "test"))
    expected = [model.sha256, score.loss, score.confusion.tolist()]
    assert [json.loads(line) for line in output.splitlines()] == [expected] * 3


def test_arrays_give_the_bits_that_the_command_makes_of_them(tmp_path: Path) -> None:
    """With the average of the weights, and the best of them on held-out images."""
    train, held_out = learnable(45, 3), learnable(17, 3)
    train.save(tmp_path / "data", held_out, held_out=True)
    more = dict(ema=0.9, validate=1, patience=2, optimizer="adam", lr=2e-3, rotate=10.0, epochs=4)
    records = []
    model = fit(
        train,
        replace(CONFIG, **more),
        held_out=held_out,
        on_epoch=lambda record, _: records.append(record["held_out"]),
    )
    words = [word for name, value in more.items() for word in (f"--{name}", value)]
    folders = ("--data", tmp_path / "data", "--out", tmp_path / "run")
    status, _, errors = launcher.run(1, "-m", "dist_vgg.train", *SMALL, *words, *folders)
    assert status == 0, errors
    assert model.average and model.best
    for name, found in (("weights", model), ("average", model.average), ("best", model.best)):
        assert found.sha256 == load_weights(tmp_path / "run" / f"{name}.h5").sha256, name
    scores = read_metrics(tmp_path / "run", "score")
    assert [{"kind": "score", **record} for record in records] == scores


def test_callbacks_see_the_model_as_it_is(data: Path) -> None:
    seen: list[tuple[str, int]] = []
    kept: list[Model] = []

    def on_step(record: dict[str, Any], model: Model) -> None:
        seen.append(("step", record["step"]))
        assert model.step == record["step"]

    def on_epoch(record: dict[str, Any], model: Model) -> None:
        seen.append(("epoch", record["epoch"]))
        assert model.sha256 == record["sha256"]
        kept.append(model.copy())

    model = fit(Dataset.open(data), CONFIG, on_step=on_step, on_epoch=on_epoch)
    one, two = [("step", n) for n in (1, 2, 3)], [("step", n) for n in (4, 5, 6)]
    assert seen == [*one, ("epoch", 1), *two, ("epoch", 2)]
    assert kept[-1].sha256 == model.sha256 != kept[0].sha256


def replica_is_mapped() -> bool:
    """Whether this process has a replica's file in memory."""
    # The list comes page by page, and misses what moves in between as other threads allocate.
    lists = (Path("/proc/self/maps").read_text() for _ in range(3))
    return any(f"{SHM}/dist_vgg" in found for found in lists)


@pytest.mark.parametrize("route", ["flat", "node"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError, UserError, None])
def test_nothing_is_left_however_it_ends(
    data: Path,
    route: str,
    error: type[BaseException] | None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    made: list[weakref.ref[Trainer]] = []
    closed: list[bool] = []

    def watched(*arguments: Any, **options: Any) -> Trainer:
        trainer = Trainer(*arguments, **options)
        made.append(weakref.ref(trainer))
        assert replica_is_mapped() == (route == "node")
        close = trainer.route.close
        monkeypatch.setattr(trainer.route, "close", lambda: (closed.append(True), close()))
        return trainer

    def fail(record: dict[str, Any], model: Model) -> None:
        if error:
            raise error

    monkeypatch.setattr(module, "Trainer", watched)
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    threads = machine.blas_threads()
    ended = None
    try:
        fit(Dataset.open(data), replace(CONFIG, route=route, epochs=1), on_step=fail)
    except BaseException as found:
        ended = type(found)
    monkeypatch.undo()
    gc.collect()
    assert (ended, closed, made[0]()) == (error, [True], None)
    # The replica of the route "node" is a file there, for as long as somebody has it mapped.
    assert not replica_is_mapped()
    assert machine.blas_threads() == threads
    assert [signal.getsignal(number) for number in signal.valid_signals()] == handlers
    assert capfd.readouterr() == ("", "")


def test_progress_is_shown_to_who_asks_for_it(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(Dataset.open(data), CONFIG, progress=True)
    lines = [line for line in capsys.readouterr().out.splitlines() if "epoch" in line]
    assert [line.partition(": loss")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]


@pytest.mark.parametrize(
    ("options", "held_out", "line"),
    [
        (dict(validate=1), None, "validate=1 scores held-out images: give fit held_out="),
        ({}, learnable(12, 2), r"held_out= is scored every TrainConfig\(validate=...\) epochs"),
        (dict(patience=1), None, "--patience waits for better scores"),
        (
            dict(validate=1),
            Dataset(np.eye(64, dtype=np.uint8)[None], [0], shards=1),
            "the images are 64x64x1 and the network takes 32x32x1",
        ),
    ],
)
def test_options_that_make_no_sense_together_are_refused(
    data: Path, options: dict[str, Any], held_out: Dataset | None, line: str
) -> None:
    with pytest.raises(UserError, match=line):
        fit(Dataset.open(data), replace(CONFIG, **options), held_out=held_out)


def test_a_loss_that_explodes_is_an_error_of_its_own() -> None:
    config = replace(CONFIG, lr=1e6, clip=0.0, warmup=0, epochs=20)
    with pytest.raises(Diverged, match=r"^step \d+: "):
        fit(learnable(30, 2), config)


def test_a_bit_that_flips_after_the_last_step_is_noticed(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flip(record: dict[str, Any], model: Model) -> None:
        if record["epoch"] == CONFIG.epochs:
            model.params.view(np.uint32)[3] ^= 1 << 12

    with pytest.raises(RankError, match=r"the parameters on rank 0 on .* changed in memory"):
        fit(Dataset.open(data), CONFIG, on_epoch=flip)
