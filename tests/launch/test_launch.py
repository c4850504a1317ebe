"""The scripts in launch/: their help, what they refuse, and what they would start."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from launcher import ROOT

SCRIPTS = ("quickstart", "recipe", "test", "docs")
TAKES = "takes no {}; see launch/quickstart.sh --help"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of scripts alone, with a Python for .venv that writes down what it would do."""
    folder = tmp_path / "project"
    (folder / "tools").mkdir(parents=True)
    shutil.copytree(ROOT / "launch", folder / "launch", ignore=shutil.ignore_patterns("*.toml"))
    (folder / "pyproject.toml").touch()
    tool = folder / "tools" / "python"
    tool.write_text(
        '#!/bin/sh\ncase "$*" in\n*base_prefix*) ;;\n'
        f'-c*) exec {sys.executable} "$@" ;;\n*) printf "%s\\n" "$PWD" "$@" ;;\nesac\n'
    )
    tool.chmod(0o755)
    return folder


def installed(project: Path) -> None:
    """As if .venv had been made already."""
    (project / ".venv" / "bin").mkdir(parents=True)
    for name in ("python", "mpirun"):
        shutil.copy(project / "tools" / "python", project / ".venv" / "bin" / name)
    for extras in ("mpich,fast", "mpich,digits,fast"):
        (project / ".venv" / f"installed-{extras}.toml").touch()


def script(
    project: Path, name: str, *words: str, cwd: Path | None = None, **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Start a script, from another folder than the project's."""
    return subprocess.run(
        ["bash", str(project / "launch" / f"{name}.sh"), *words],
        capture_output=True,
        text=True,
        cwd=cwd or project.parent,
        env={**os.environ, "PYTHON": "/no/python", "PYTHONPATH": str(ROOT), **variables},
    )


def everything(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.mark.parametrize("name", [*SCRIPTS, "environment"])
@pytest.mark.parametrize("words", [("--help",), ("-h",), ("mnist-100", "--raw", "x", "--help")])
def test_help_is_the_scripts_own_and_all_that_happens(
    name: str, words: tuple[str, ...], project: Path
) -> None:
    before = everything(project)
    done = script(project, name, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert "PYTHON " in done.stdout
    if name in SCRIPTS:
        assert f"\n  launch/{name}.sh" in done.stdout
    head = (ROOT / "launch" / f"{name}.sh").read_text().partition("\n\n")[0].partition("\nset ")[0]
    comment = [line.removeprefix("#").removeprefix(" ") for line in head.splitlines()[1:]]
    assert done.stdout.splitlines() == comment
    assert everything(project) == before


def test_help_names_what_a_script_takes(project: Path) -> None:
    takes = {
        "quickstart": ["--raw DIR", "--source NAME", "--seed N", "--size PIXELS", "DIST_VGG_CACHE"],
        "recipe": [
            "mnist-100 ",
            "mnist-1000 ",
            "mnist-60000 ",
            "fashion-mnist ",
            "cifar10 ",
            "--raw DIR",
            "SEEDS ",
            "PRECISION ",
        ],
        "test": ["Arguments go to pytest"],
        "docs": ["docs/_build/html/index.html", "where there is a network"],
    }
    for name, words in takes.items():
        text = script(project, name, "--help").stdout
        assert [word for word in words if word not in text] == []


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--check", "data"), TAKES.format("--check")),
        (("--out=data",), TAKES.format("--out")),
        (("--overwrite",), TAKES.format("--overwrite")),
        (("--raw", "x", "--check=data"), TAKES.format("--check")),
        (("--version",), TAKES.format("--version")),
        (("mnist",), TAKES.format("mnist")),
        (("--raw",), "--raw needs a value"),
    ],
)
def test_the_quickstart_refuses_what_is_not_for_it(
    words: tuple[str, ...], complaint: str, project: Path
) -> None:
    before = everything(project)
    done = script(project, "quickstart", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.endswith(f"{complaint}\n")
    assert len(done.stderr.splitlines()) == 1
    assert everything(project) == before


@pytest.mark.parametrize("words", [(), ("--raw", "x", "--source=mnist", "--size", "32")])
def test_the_commands_that_the_quickstart_is(words: tuple[str, ...], project: Path) -> None:
    installed(project)
    ranks = "5" if words else str(min(8, max(2, len(os.sched_getaffinity(0)))))
    chosen = {"RANKS": ranks} if words else {}
    done = script(project, "quickstart", *words, PYTHON=sys.executable, **chosen)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == ""
    assert lines[1].startswith("== 1/3 shards of training images (")
    given = [f"{project.parent}/x" if word == "x" else word for word in words]
    ours = ["-m", "data_prep", "--limit", "1000", "--out", "quickstart/data", "--overwrite"]
    start = lines.index(str(project))
    assert lines[start + 1 : lines.index("", start)] == [*ours, *given]
    start = lines.index(str(project), start + 1)
    train = lines[start + 1 : lines.index("", start)]
    assert train[:5] == ["-n", ranks, "python", "-m", "dist_vgg.train"]
    assert train[-2:] == ["--config", "quickstart"]


@pytest.mark.parametrize("ranks", ["0", "many", "-1", "2.5"])
def test_the_quickstart_refuses_ranks_that_are_no_number(ranks: str, project: Path) -> None:
    done = script(project, "quickstart", RANKS=ranks)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: RANKS is a number of ranks, not '{ranks}'\n"


def test_the_command_that_a_recipe_is(project: Path) -> None:
    installed(project)
    caller = project.parent / "where we are"
    (caller / "mnist").mkdir(parents=True)

    def asked(*words: str, **variables: str) -> list[str]:
        done = script(project, "recipe", *words, cwd=caller, PYTHON=sys.executable, **variables)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    data = "--source mnist --limit 100 --shards 2 "
    common = [str(project), "-m", "dist_vgg.sweep", "-n", "2", "--out", "recipes/mnist-100"]
    rest = ["--held-out", "2000", "--", "--config", "mnist-100"]
    seeds = ["--seeds", "0,1,2,3,4", "--prepare"]
    assert asked("mnist-100") == [*common, *seeds, data, *rest]
    assert asked("mnist-100", SEEDS="7")[7:] == ["--seeds", "7", "--prepare", data, *rest]
    bfloat16 = asked("mnist-100", PRECISION="bfloat16")
    assert bfloat16[6] == "recipes/mnist-100-bfloat16"
    assert bfloat16[-4:] == ["--config", "mnist-100", "--precision", "bfloat16"]
    assert asked("mnist-100", PRECISION="float32") == asked("mnist-100")
    assert asked("mnist-narrow")[7:11] == ["--seeds", "0", "--vary", "width=0.125,0.25,0.5"]
    for given, meant in [
        (["--raw", "mnist", "--source", "mnist"], f"--raw '{caller}/mnist' --source mnist"),
        (["--raw=mnist"], f"'--raw={caller}/mnist'"),
        (["--raw", "/x"], "--raw /x"),
        (["--raw=/x y"], "'--raw=/x y'"),
        (["--raw", "--size=32"], "--raw --size=32"),
    ]:
        assert asked("mnist-100", *given)[10] == data + meant


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            (),
            "error: name a recipe: mnist-100, mnist-1000, mnist-60000, mnist-narrow, fashion-mnist "
            "or cifar10; ",
        ),
        (("mnist-10",), "error: unknown recipe 'mnist-10'; choose mnist-100, mnist-1000, mnist-"),
        (("--raw", "x"), "error: unknown recipe '--raw'; choose mnist-100, mnist-1000, mnist-"),
    ],
)
def test_an_unknown_recipe_is_one_line(
    words: tuple[str, ...], complaint: str, project: Path
) -> None:
    before = everything(project)
    done = script(project, "recipe", *words)
    assert done.returncode == 2
    assert done.stderr.startswith(complaint)
    assert len(done.stderr.splitlines()) == 1
    assert everything(project) == before


def test_what_the_scripts_share_is_no_script(project: Path) -> None:
    done = script(project, "environment")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: environment.sh does nothing by itself; "
        "start quickstart.sh, recipe.sh, test.sh or docs.sh\n"
    )


def test_a_python_that_is_missing_or_too_old(project: Path) -> None:
    for name, words in [("quickstart", ()), ("recipe", ("mnist-100",)), ("test", ()), ("docs", ())]:
        done = script(project, name, *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            "error: '/no/python' is not Python 3.10 or newer; set PYTHON to one that is\n"
        )
    assert not (project / ".venv").exists()
