"""Replay: the same bits from one process, and the layer where a record is not the same."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from launcher import here, train
from sets import each_set
from training import refused

from dist_vgg.replay import difference
from dist_vgg.state.checksums import GRADIENT, PARAMETERS


@pytest.fixture(scope="session")
def run(data: Path, kernels: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("replay") / "run"
    options = ("--width", 0.02, "--micro-batch", 3, "--epochs", 3, "--progress", "none")
    where = ("--data", data, "--out", folder, "--kernels", kernels)
    status, _, errors = train(3, *where, *options)
    assert status == 0, errors
    return folder


def replay(*options: object) -> tuple[int, str, str]:
    return here("dist_vgg.replay", *options)


@each_set
@pytest.mark.parametrize(
    ("step", "source"),
    [(8, "from the checkpoint after step 6"), (2, "no checkpoint before step 2 is left")],
)
def test_a_step_of_three_ranks_has_the_same_bits_in_one_process(
    run: Path, step: int, source: str
) -> None:
    status, output, errors = replay(run, "--step", step)
    assert status == 0, errors
    assert source in output
    assert output.splitlines()[-1] == f"step {step}: the same bits"


def test_a_step_that_was_computed_wrongly_is_found(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    path = copy / "metrics.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    (wrong,) = (r for r in records if r["kind"] == "step" and r["step"] == 8)
    for layer in ("conv1_1", "conv4_2"):
        wrong["layers"][GRADIENT][layer] = "00000000"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    status, output, _ = replay(copy)
    assert status == 72
    assert "step 7: the same bits" in output
    assert "step 8: differs: summed gradient first in conv4_2, in 2 of 16 layers" in output
    assert "step 9" not in output


def test_damage_behind_and_before_a_step_is_no_reason_not_to_look(
    run: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    with (copy / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "st')  # its writer was killed, or the disk full
    for path in (copy / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    status, output, errors = replay(copy, "--step", 8)
    assert status == 0, errors
    assert "step-00000006.h5 is damaged" in output
    assert "no checkpoint before step 8 is left: from the start" in output
    assert output.splitlines()[-1] == "step 8: the same bits"


def test_differences_are_named_in_the_order_they_arise() -> None:
    layers = {"conv1_1": "1", "fc6": "2", "fc8": "3"}
    one: dict[str, Any] = dict(digest="a", layers={GRADIENT: layers, PARAMETERS: layers})
    assert difference(one, one) == ""
    changed = {**layers, "fc6": "9", "fc8": "9"}
    other = dict(digest="b", layers={GRADIENT: changed, PARAMETERS: changed})
    assert difference(one, other) == (
        "differs: summed gradient first in fc8, in 2 of 3 layers; "
        "parameters first in fc6, in 2 of 3 layers"
    )


def test_mistakes_are_one_line(run: Path, data: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(run, tmp_path / "damaged")
    (damaged / "metrics.jsonl").write_text("{}\nno JSON\n")
    lost = shutil.copytree(run, tmp_path / "lost")
    (lost / "config.json").unlink()
    cases: list[tuple[tuple[object, ...], str]] = [
        ((tmp_path / "gone",), f"can't read {tmp_path / 'gone'}"),
        ((run, "--step", 10), "--step 10 is not recorded"),
        ((run, "--step", 0), "which has 1 to 9"),
        ((run, "--stepp", 1), "did you mean --step?"),
        ((run, "--data", tmp_path), f"no shards in {tmp_path}"),
        ((damaged,), "metrics.jsonl is damaged"),
        ((lost,), f"can't read {lost / 'config.json'}"),
    ]
    refused(1, "dist_vgg.replay", cases)
    refused(2, "dist_vgg.replay", [((run,), "start it without mpirun")])
