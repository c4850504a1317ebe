"""The recipes in launch/: each is valid, and its narrow version runs from raw data to a score."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from launcher import ROOT, run

from dist_vgg.config import TrainConfig, read_toml

RECIPES = sorted(path.stem for path in (ROOT / "launch").glob("*.toml"))
TRAINED = [f"mnist-{count}" for count in (100, 1000, 60000)]


def test_every_recipe_is_there() -> None:
    assert set(RECIPES) >= {"quickstart", *TRAINED}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_of_the_network_as_drawn_on_all_its_data(name: str) -> None:
    options = read_toml(str(ROOT / "launch" / f"{name}.toml"))
    config = TrainConfig(**options)
    assert config.augment
    assert (config.width, config.limit) == (1, 0)
    assert not {"data", "out", "seed"} & set(options)  # those belong to the command


@pytest.mark.parametrize("name", RECIPES)
def test_its_narrow_version_runs(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    status, _, errors = run(
        1, "-m", "dist_vgg.sweep", "--out", out, "--prepare",
        "--source digits --size 32 --limit 40 --shards 2", "--", "--config",
        ROOT / "launch" / f"{name}.toml", "--width", 0.02, "--epochs", 2, "--progress", "none",
    )  # fmt: skip
    assert status == 0, errors
    (found,) = json.loads((out / "sweep.json").read_text())
    assert len(found["loss"]) == 2
    recipe = read_toml(str(ROOT / "launch" / f"{name}.toml"))
    assert list(found["models"]) == ["weights", "average"][: 1 + bool(recipe.get("ema"))]
    config = json.loads((Path(found["folder"]) / "config.json").read_text())["config"]
    narrow = dict(width=0.02, epochs=2, progress="none")
    assert {key: config[key] for key in recipe | narrow} == recipe | narrow


def test_the_command_that_a_recipe_is(tmp_path: Path) -> None:
    # With a Python that writes down what it is to do.
    project, caller = tmp_path / "project", tmp_path / "where we are"
    (project / ".venv" / "bin").mkdir(parents=True)
    (caller / "mnist").mkdir(parents=True)
    shutil.copytree(ROOT / "launch", project / "launch")
    for name in ("pyproject.toml", ".venv/installed-mpich.toml"):
        (project / name).touch()
    python = project / ".venv" / "bin" / "python"
    python.write_text(
        '#!/bin/sh\ncase "$*" in\n*base_prefix*) ;;\n'
        f'-c*) exec {sys.executable} "$@" ;;\n*) printf "%s\\n" "$PWD" "$@" ;;\nesac\n'
    )
    python.chmod(0o755)

    def asked(*words: str, **variables: str) -> list[str]:
        command = ["bash", str(project / "launch" / "recipe.sh"), *words]
        found = {**os.environ, **variables}
        return subprocess.check_output(command, text=True, cwd=caller, env=found).splitlines()

    data = "--source mnist --limit 100 --shards 2 "
    common = [str(project), "-m", "dist_vgg.sweep", "-n", "2", "--out", "recipes/mnist-100"]
    rest = ["--held-out", "2000", "--", "--config", "launch/mnist-100.toml"]
    seeds = ["--seeds", "0,1,2,3,4", "--prepare"]
    assert asked("mnist-100") == [*common, *seeds, data, *rest]
    assert asked("mnist-100", SEEDS="7")[7:] == ["--seeds", "7", "--prepare", data, *rest]
    for given, meant in [
        (["--raw", "mnist", "--source", "mnist"], f"--raw '{caller}/mnist' --source mnist"),
        (["--raw=mnist"], f"'--raw={caller}/mnist'"),
        (["--raw", "/x"], "--raw /x"),
        (["--raw=/x y"], "'--raw=/x y'"),
        (["--raw", "--size=32"], "--raw --size=32"),
    ]:
        assert asked("mnist-100", *given)[10] == data + meant


@pytest.mark.parametrize("words", [(), ("mnist-10",)])
def test_an_unknown_recipe_is_one_line(words: tuple[str, ...]) -> None:
    command = ["bash", str(ROOT / "launch" / "recipe.sh"), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: unknown recipe '{''.join(words)}'; choose mnist-100")
    assert len(done.stderr.splitlines()) == 1
