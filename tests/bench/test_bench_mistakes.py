"""Mistakes of who measures are one line."""

from collections.abc import Sequence

import pytest
from benching import one_error, run_bench

from dist_vgg.base import table
from dist_vgg.base.errors import UserError
from dist_vgg.bench import processes
from dist_vgg.mpi import mpirun


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ((), "the following arguments are required: BENCHMARK"),
        (("stpe",), "invalid choice: 'stpe'"),
        (("step", "--rankss", "2"), "unknown option --rankss"),
        (("step", "--ranks", "0"), "0 is no whole number from 1"),
        (("step", "--ranks", "two"), "two is no whole number from 1"),
        (("step", "--ranks", "9"), "--ranks 9 is more than --shards 8"),
        (("step", "--width", "-1"), "--width -1.0 is out of range"),
        (("step", "--seconds", "nan"), "nan is no number of seconds"),
        (("step", "--route", "fast"), "invalid choice: 'fast'"),
        (("kernels", "--json", "no/folder/x.json"), "can't write --json no/folder/x.json"),
        (("kernels", "--plot", "x.gif"), "--plot x.gif: name a .png, .pdf or .svg file"),
        (("evaluation", "--images", "1"), "--images 1 is fewer than --ranks 2"),
        (("exchange", "--ranks", "1,2"), "an exchange needs at least 2"),
        (("exchange", "--sizes", "1.5"), "1.5 is no whole number"),
        (("memory", "--ranks", "9"), "--ranks 9 is more than --shards 8"),
        (("step", "--against", "torch", "--torch-python", "/no/python"), "--torch-python"),
        (("step", "--network", "vgg11", "--against", "torch"), "--against compares vgg16"),
        (("step", "--against", "openvino"), "'openvino' is not one of: torch"),
    ],
)
def test_mistakes_are_one_line(
    argv: Sequence[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_bench(argv) == 2
    assert words in one_error(capsys)


def test_a_mistake_in_the_ranks_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    command = processes.worker_command(2, "step", shards=2, seconds=1, micro_batch=0)
    with pytest.raises(UserError, match="--micro-batch 0 is out of range"):
        processes.result_of("step", command)


def test_under_mpirun_it_says_that_it_needs_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PMI_RANK", "0")
    assert run_bench(["kernels"]) == 2
    assert "start it without mpirun" in one_error(capsys)


def test_missing_matplotlib_and_mpirun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(table.importlib.util, "find_spec", lambda name: None)
    assert run_bench(["kernels", "--plot", "x.png"]) == 2
    assert "pip install matplotlib" in one_error(capsys)
    monkeypatch.setattr(mpirun.shutil, "which", lambda *args, **kwargs: None)
    with pytest.raises(UserError, match=r"^no mpirun found; pip install .* MPI module$"):
        processes.worker_command(2, "step")
