"""What works without MPI and before anything is started: the list of commands, help, versions."""

from pathlib import Path

import launcher
import pytest

import dist_vgg

NEED_NO_MPI = (("predict", "--help"), ("summary",), ("preview", "--help"), ("train", "--help"),
               ("train", "--version"), ("evaluate", "--help"), ("replay", "--version"),
               ("sweep", "--version"), ("elastic", "--version"),
               ("bench", "--help"), ("chaos", "--help"))  # fmt: skip


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


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("train", "start it with: python -m dist_vgg.train"),
        ("trian", "no command trian; did you mean train?"),
    ],
)
def test_a_command_given_as_a_word_is_shown_as_a_module(word: str, answer: str) -> None:
    status, _, errors = launcher.run(1, "-m", "dist_vgg", word)
    assert status == 2
    assert answer in launcher.one_line(errors)
