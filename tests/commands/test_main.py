"""What works without MPI and before anything is started: the list of commands, help, versions."""

import re
from pathlib import Path

import launcher
import pytest
from training import EPOCHS, SMALL

import dist_vgg
from dist_vgg import __main__
from dist_vgg.state.weights import load_weights

NEED_NO_MPI = (("predict", "--help"), ("summary",), ("preview", "--help"), ("train", "--help"),
               ("train", "--version"), ("evaluate", "--help"), ("replay", "--version"),
               ("sweep", "--version"), ("elastic", "--version"),
               ("bench", "--help"), ("chaos", "--help"), ("doctor", "--help"))  # fmt: skip


@pytest.mark.parametrize("words", NEED_NO_MPI, ids=" ".join)
def test_no_mpi_library_is_needed(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "mpi4py.py").write_text("raise ImportError('no libmpi.so')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import runpy; "
    code += f"runpy.run_module('dist_vgg.{words[0]}', run_name='__main__', alter_sys=True)"
    status, output, errors = launcher.run(1, "-c", code, *words[1:])
    assert (status, errors) == (0, "")
    assert output.strip() == f"dist_vgg {dist_vgg.__version__}" if "--version" in words else output


def test_ranks_show_their_help_once() -> None:
    status, output, _ = launcher.run(3, "-m", "dist_vgg.train", "--help")
    assert status == 0
    assert output.count("usage:") == 1


def test_a_command_of_one_process_refuses_several_ranks() -> None:
    status, output, errors = launcher.run(2, "-m", "dist_vgg.summary")
    assert (status, output) == (2, "")
    line = launcher.one_line(errors)
    assert line == "dist_vgg.summary: error: summary is one process: start it without mpirun"


def test_of_several_that_srun_has_started_one_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell under srun --pty is one of them, and has no others to talk to."""
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    for rank in (0, 1):
        monkeypatch.setenv("SLURM_PROCID", str(rank))
        status, output, errors = launcher.run(1, "-m", "dist_vgg.summary")
        assert (status, errors) == (0, "")
        assert bool(output) == (rank == 0)


def test_the_package_lists_its_commands() -> None:
    status, output, _ = launcher.run(1, "-m", "dist_vgg")
    assert status == 0
    for command in ("data_prep", "dist_vgg.train", "dist_vgg.predict"):
        assert f"python -m {command} " in output


def test_an_unknown_command_is_answered_once_by_the_nearest() -> None:
    for ranks in (1, 2):
        status, output, errors = launcher.run(ranks, "-m", "dist_vgg", "trian")
        assert (status, output) == (2, "")
        line = "no command trian; did you mean train?; see python -m dist_vgg"
        assert launcher.one_line(errors) == f"dist_vgg: error: {line}"


# The console script, which an editable install that is older than it does not have.


def console_script() -> list[str]:
    """Arguments of Python that run the entry point of the script as pip's wrapper does."""
    text = (launcher.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (entry,) = re.findall(r'^dist-vgg = "(.+)"$', text, re.MULTILINE)
    module, _, name = entry.partition(":")
    code = f"import sys; from {module} import {name}; sys.argv[0] = 'dist-vgg'; sys.exit({name}())"
    return ["-c", code]


@pytest.mark.parametrize(
    ("start", "name", "called"),
    [
        *(([], name, f"dist-vgg {name} ") for name in __main__.COMMANDS),
        (["-m", "dist_vgg"], "prepare", "python -m dist_vgg prepare "),
        (["-m"], "data_prep", "python -m data_prep "),
    ],
)
def test_a_name_starts_the_module_which_says_how_it_was_called(
    start: list[str], name: str, called: str
) -> None:
    status, output, errors = launcher.run(1, *(start or console_script()), name, "--help")
    assert (status, errors) == (0, "")
    assert " ".join(output.split()).startswith(f"usage: {called}")


def test_ranks_start_through_the_script_with_the_same_bits(
    data: Path, reference: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    options = ("--data", data, "--out", folder, *SMALL, *EPOCHS)
    status, output, errors = launcher.run(2, *console_script(), "train", *options)
    assert status == 0, errors
    assert launcher.field(output, "ranks").startswith("2 on ")
    assert load_weights(folder).sha256 == load_weights(reference).sha256


@pytest.mark.parametrize(("ranks", "name"), [(1, "train"), (2, "train"), (1, "prepare")])
def test_mistakes_through_the_script_have_its_name_and_status(ranks: int, name: str) -> None:
    status, output, errors = launcher.run(ranks, *console_script(), name, "--lmit", "3")
    assert (status, output) == (2, "")
    line = f"unknown option --lmit; did you mean --limit?; see dist-vgg {name} --help"
    assert launcher.one_line(errors) == f"{__main__.COMMANDS[name]}: error: {line}"
