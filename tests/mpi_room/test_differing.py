"""Ranks that were started unlike each other are refused, in one line that has both sides."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from launcher import one_line, run
from training import EPOCHS, INSIDE, SMALL

from dist_vgg.data.dataset import load_shard, open_set
from dist_vgg.data.shards import write_shard

NUMPY = ("--kernels", "numpy")  # compiled ones do not ask BLAS


def start(thing: str, *options: object, ranks: int = 3, cwd: Path | None = None) -> tuple[int, str]:
    """Train where the last rank differs: the status, and what is wrong."""
    script = INSIDE / "differing_train.py"
    options = (*NUMPY, *options, *SMALL, *EPOCHS)
    status, _, errors = run(ranks, script, thing, *options, cwd=cwd)
    return status, one_line(errors) if status else ""


@pytest.fixture
def places(data: Path, tmp_path: Path) -> dict[str, Path]:
    """Two places that have a data folder of the same name: each host's own disk."""
    places = {name: tmp_path / name for name in ("node1", "node2")}
    for place in places.values():
        shutil.copytree(data, place / "data")
    return places


# What the last rank is unlike in, and what is said of it.
DIFFERENCES = [
    ("kernels", ("in the BLAS kernels: ", "openblas 0.3.31 Haswell (a product ",
                 "OPENBLAS_CORETYPE")),
    ("version of kernels", ("in the kernels: ", "numpy 7 for rank 2 on node2",
                            "install the same on every host")),
    ("product", ("in the BLAS kernels: ", "for rank 2 on node2")),
    ("threads", ("in the BLAS threads: ", "[7] for rank 2 on node2")),
    ("version", ("in the version of dist_vgg: ", "0.0.9 (source", "install the same")),
    ("source", ("in the version of dist_vgg: ", "for rank 0 on node1")),
    ("NumPy", ("in the version of NumPy: ", "1.0 for rank 2 on node2")),
    ("--lr 0.5", ("in --lr: ", "not given for rank 0 on node1", "0.5 for rank 2 on node2")),
    ("--resume", ("in --resume: ", "yes for rank 2 on node2")),
    ("--route flat", ("in --route: ", "flat for rank 2 on node2")),
    ("--mistyped", ("on node2: unknown option --mistyped",)),
]  # fmt: skip


def test_ranks_that_differ_are_refused(data: Path, tmp_path: Path) -> None:
    things = json.dumps([thing for thing, _ in DIFFERENCES])
    options = (*NUMPY, "--data", data, "--out", tmp_path / "run", *SMALL, *EPOCHS)
    status, output, errors = run(3, INSIDE / "differing_often.py", things, *options)
    assert status == 0, errors
    lines = [line for line in output.splitlines() if line.startswith("[")]
    for (thing, words), line in zip(DIFFERENCES, lines, strict=True):
        status, said = json.loads(line)
        assert status == 2 and "\n" not in said, thing
        for part in words:
            assert part in said, thing
    assert not (tmp_path / "run").exists()


def test_another_version_is_seen_before_a_command_begins(tmp_path: Path) -> None:
    status, line = start("version", "--data", tmp_path / "none")
    assert status == 2
    assert "ranks differ in the version of dist_vgg: " in line


def test_ranks_that_differ_in_nothing_that_counts_train(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    status, line = start("--progress none", "--data", data, "--out", folder)
    assert status == 0, line
    placement = json.loads((folder / "config.json").read_text())["placement"]
    assert [(one["host"], one["ranks"]) for one in placement] == [("node1", [0, 1]), ("node2", [2])]
    assert all(one["kernels"] for one in placement)


def test_the_head_names_the_hosts_and_kernels(data: Path, tmp_path: Path) -> None:
    script = INSIDE / "differing_train.py"
    where = ("--data", data, "--out", tmp_path / "run")
    status, output, errors = run(3, script, "nothing", *where, *NUMPY, *SMALL, *EPOCHS)
    assert status == 0, errors
    assert "ranks   3 on node1 (2), node2 (1), route " in output
    assert "\nkernels NumPy " in output


@pytest.mark.parametrize(
    ("other", "name"),
    [
        ({"digest": 64 * "0"}, "the data set"),
        ({"request": '{"seed": 1}'}, "the request to data_prep"),
    ],
)
def test_other_shards_on_one_host_are_refused(
    other: dict[str, str], name: str, places: dict[str, Path]
) -> None:
    folder = places["node2"] / "data"
    info = open_set(folder)
    changed = replace(info, **other)
    for split in ("train", "test"):
        for index in range(info.shards):
            write_shard(folder, split, index, load_shard(folder, split, index, info), changed)
    status, line = start(f"cd {places['node2']}", "--data", "data", cwd=places["node1"])
    assert status == 2
    here, there = info.facts()[name], changed.facts()[name]
    words = f"ranks differ in {name}: {here} for rank 0 on node1, {there} for rank 2 on node2"
    assert f"{words}; give every host the same shards" in line


def test_a_mistake_that_one_host_has_names_it(places: dict[str, Path]) -> None:
    shutil.rmtree(places["node2"] / "data")
    status, line = start(f"cd {places['node2']}", "--data", "data", cwd=places["node1"])
    assert status == 2
    assert "error: on node2: no data folder data" in line
    # What all have is nobody's own.
    status, line = start("nothing", "--data", "nowhere", cwd=places["node1"])
    assert status == 2
    assert "error: no data folder nowhere" in line


def test_a_supervised_run_needs_its_folder_where_rank_0_is(
    monkeypatch: pytest.MonkeyPatch, places: dict[str, Path]
) -> None:
    """Its supervisor would never see it finished, and start it again and again."""
    monkeypatch.setenv("DIST_VGG_ELASTIC", "run")
    status, line = start("nothing", "--data", "data", "--out", "run", cwd=places["node1"])
    assert status == 2
    assert "error: on node1: the run's folder run is not the one that dist_vgg.elastic has" in line


def test_hosts_that_cant_take_the_place_of_the_first_are_named(
    monkeypatch: pytest.MonkeyPatch, places: dict[str, Path]
) -> None:
    monkeypatch.setenv("DIST_VGG_ELASTIC", "run")
    (places["node1"] / "run").mkdir()
    (places["node1"] / "run" / "elastic.jsonl").touch()
    options = (f"cd {places['node2']}", "--data", "data", "--out", "run", *SMALL, "--epochs", 1)
    status, output, errors = run(3, INSIDE / "differing_train.py", *options, cwd=places["node1"])
    assert status == 0, errors
    assert "warning: node2 can't see the run's folder run: if node1 is lost" in output


def test_an_evaluation_of_ranks_that_differ_is_refused(data: Path, reference: Path) -> None:
    command = ("-m", "dist_vgg.evaluate", reference, "--data", data, "--limit")
    status, _, errors = run(-1, *command, 10, ":", "-n", 1, sys.executable, *command, 9)
    assert status == 2
    assert "ranks differ in --limit: 10 for rank 0 on " in one_line(errors)
