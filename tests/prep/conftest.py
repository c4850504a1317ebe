"""Calling data_prep with few images that count as MNIST."""

from pathlib import Path

import pytest
from idx import ArrayDict, write_files
from preparing import Run

from data_prep.__main__ import main
from dist_vgg.base.command_line import guarded


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process: exit status, output, error output."""

    def run(*words: object) -> tuple[int, str, str]:
        status = guarded("data_prep", lambda: main([str(word) for word in words]))
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def raw(tmp_path: Path, tiny: ArrayDict) -> Path:
    return write_files(tmp_path / "raw", tiny)
