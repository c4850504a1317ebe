"""The recipes in launch/: each is valid, and its narrow version runs from raw data to a score."""

import json
import subprocess
from pathlib import Path

import pytest
from launcher import ROOT, run

from dist_vgg.config import TrainConfig, read_toml

RECIPES = sorted(path.stem for path in (ROOT / "launch").glob("*.toml"))
TRAINED = [f"mnist-{count}" for count in (100, 1000, 60000)]


def test_every_recipe_is_there() -> None:
    assert set(RECIPES) >= {"quickstart", *TRAINED}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_all_that_makes_the_result(name: str) -> None:
    options = read_toml(str(ROOT / "launch" / f"{name}.toml"))
    config = TrainConfig(**options)
    assert config.augment
    assert (config.width, config.limit) == (1, 0)  # the network as drawn, on all its data
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
    assert 0 <= found["models"]["weights"]["test"] <= 1


@pytest.mark.parametrize("words", [(), ("mnist-10",)])
def test_an_unknown_recipe_is_one_line(words: tuple[str, ...]) -> None:
    command = ["bash", str(ROOT / "launch" / "recipe.sh"), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: unknown recipe '{''.join(words)}'; choose mnist-100")
    assert len(done.stderr.splitlines()) == 1
