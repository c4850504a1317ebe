"""Benchmarks in small, in the process of a test."""

from collections.abc import Sequence

import pytest

from dist_vgg.base.command_line import guarded
from dist_vgg.bench import __main__ as bench

SMALL = ("--width", "0.05", "--products", "64", "--repeat", "2")
QUICK = (*SMALL, "--seconds", "0.01")


def run_bench(argv: Sequence[str]) -> int:
    """Run the command in this process; its exit status."""
    return guarded("dist_vgg.bench", lambda: bench.main(argv))


def one_error(capsys: pytest.CaptureFixture[str]) -> str:
    """The single line that the benchmark wrote to standard error."""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dist_vgg.bench: error: ")
    return line
