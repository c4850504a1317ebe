"""The recipes: each is valid, and its narrow version runs from raw data to a score."""

import json
from pathlib import Path

import pytest
from launcher import FEW_DIGITS, ROOT, run

from dist_vgg.base.errors import UserError
from dist_vgg.runs.config import TrainConfig
from dist_vgg.runs.log import read_metrics
from dist_vgg.runs.recipes import RECIPES as FOLDER
from dist_vgg.runs.recipes import read_toml, recipes, tomllib

RECIPES = recipes()
PACKAGES = ("dist_vgg", "data_prep")
NARROW = {"mnist-narrow": 0.125, "fashion-mnist": 0.5, "cifar10": 0.5}  # and their widths
TRAINED = [f"mnist-{count}" for count in (100, 1000, 60000)]


def test_every_recipe_is_there() -> None:
    assert set(RECIPES) >= {"quickstart", *TRAINED, *NARROW}


def test_recipes_and_all_else_that_is_no_program_are_installed() -> None:
    # setuptools finds packages, and leaves out other files unless told.
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    inside = [init.parent for top in PACKAGES for init in (ROOT / top).rglob("__init__.py")]
    for folder in inside:
        package = ".".join(folder.relative_to(ROOT).parts)
        data = {
            path
            for path in folder.rglob("*")
            if path.is_file()
            and path.suffix not in (".py", ".pyc")
            # A file belongs to the innermost package around it.
            and max((p for p in inside if p in path.parents), key=lambda p: len(p.parts)) == folder
        }
        patterns = settings["package-data"].get(package, [])
        assert data == {path for pattern in patterns for path in folder.glob(pattern)}, package


def test_in_a_checkout_they_are_found_where_they_were() -> None:
    links = list((ROOT / "launch").glob("*.toml"))
    assert sorted(link.stem for link in links) == sorted({*RECIPES} - {*NARROW})
    for link in links:
        assert not link.readlink().is_absolute()
        assert link.samefile(FOLDER / link.name)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_a_name_from_anywhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = read_toml(name)
    assert found == read_toml(str(FOLDER / f"{name}.toml")) != {}
    (tmp_path / name).mkdir()  # a run's folder, say
    assert read_toml(name) == found
    (tmp_path / name).rmdir()
    (tmp_path / name).write_text("epochs = 7")
    assert read_toml(name) == {"epochs": 7}


def test_a_name_that_is_no_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = f"is no file and no recipe; the recipes are {', '.join(RECIPES)}"
    gone, meant = "No such file or directory", "did you mean --config"
    for given, complaint in [
        ("mnist-100O", f"--config mnist-100O {names}; did you mean mnist-100?"),
        ("xyzzy", f"--config xyzzy {names}"),
        ("mnist-100.toml", f"can't read --config mnist-100.toml: {gone}; {meant} mnist-100?"),
        ("x/mnist-100.toml", f"can't read --config x/mnist-100.toml: {gone}; {meant} mnist-100?"),
        ("./mnist-100", f"can't read --config ./mnist-100: {gone}; {meant} mnist-100?"),
        ("mnist-7.toml", f"can't read --config mnist-7.toml: {gone}"),
    ]:
        with pytest.raises(UserError) as caught:
            read_toml(given)
        assert str(caught.value) == complaint


@pytest.mark.parametrize(
    "words",
    [
        ("train", "--config", "mnist-1000", "--data", "nowhere"),
        ("preview", "picture.png", "--config", "mnist-1000", "--data", "nowhere"),
        ("sweep", "--out", "out", "--", "--config", "mnist-1000", "--data", "nowhere"),
        ("elastic", "-n", "1", "--", "--config", "mnist-1000", "--data", "nowhere"),
    ],
)
def test_every_command_knows_recipes_by_name(words: tuple[str, ...], tmp_path: Path) -> None:
    # Each gets as far as the data, which are not there.
    status, _, errors = run(1, "-m", f"dist_vgg.{words[0]}", *words[1:], cwd=tmp_path)
    assert status == 2
    assert "no data folder nowhere" in errors, errors


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_of_the_network_as_drawn_on_all_its_data(name: str) -> None:
    options = read_toml(name)
    chosen = TrainConfig(**options)
    assert chosen.augment
    assert (chosen.width, chosen.limit) == (NARROW.get(name, 1), 0)
    assert not {"data", "out", "seed"} & set(options)  # those belong to the command


@pytest.fixture(scope="module")
def few_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of 40 digits, and 20 held out, from raw data."""
    folder = tmp_path_factory.mktemp("few-digits") / "data"
    status, _, errors = run(
        1, "-m", "data_prep", "--source", "digits", "--size", 32, "--limit", 40, "--shards", 2,
        "--held-out", 20, "--out", folder, first=[FEW_DIGITS],
    )  # fmt: skip
    assert status == 0, errors
    return folder


@pytest.mark.parametrize("name", RECIPES)
def test_its_narrow_version_runs(name: str, few_digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    status, _, errors = run(
        1, "-m", "dist_vgg.sweep", "--out", out, "--", "--data", few_digits, "--config", name,
        "--width", 0.02, "--epochs", 2, "--progress", "none",
    )  # fmt: skip
    assert status == 0, errors
    (found,) = json.loads((out / "sweep.json").read_text())
    assert len(found["loss"]) == 2
    recipe = read_toml(name)
    scores = read_metrics(Path(found["folder"]), "score")
    assert len(scores) == 2 * recipe.get("validate", 0)
    assert list(found["models"]) == ["weights", "average"][: 1 + bool(recipe.get("ema"))]
    options = json.loads((Path(found["folder"]) / "config.json").read_text())["config"]
    narrow = dict(width=0.02, epochs=2, progress="none")
    assert {key: options[key] for key in recipe | narrow} == recipe | narrow
