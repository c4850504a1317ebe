"""What the tests of the benchmarks share."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from benching import run_bench
from launcher import FOR_MPI


@pytest.fixture(autouse=True)
def for_mpi(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in FOR_MPI.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a benchmark: what it printed, and the results in its JSON."""

    def run(*argv: str) -> tuple[str, dict[str, Any]]:
        path = tmp_path / "found.json"
        status = run_bench([*argv, "--json", str(path)])
        output, errors = capsys.readouterr()
        assert (status, errors) == (0, "")
        found = json.loads(path.read_text())
        assert found["benchmark"] == argv[0]
        assert found["command"].startswith(f"python -m dist_vgg.bench {argv[0]}")
        assert found["machine"]["processor"]
        assert found["machine"]["versions"]["numpy"] in output
        assert found["command"] in output
        return output, found["results"]

    return run


@pytest.fixture
def stub(tmp_path: Path) -> Any:
    """An executable that stands for a Python with torch and does what it is given."""

    def make(lines: str) -> str:
        path = tmp_path / "python-with-torch"
        path.write_text(f"#!{sys.executable}\nimport sys, time\n{lines}\n")
        path.chmod(0o755)
        return str(path)

    return make
