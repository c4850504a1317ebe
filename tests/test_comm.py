"""What ranks say reaches the user; the rest of comm is in inside_ranks/check_comm.py."""

from pathlib import Path

import launcher
import pytest

CROWD = """
from mpi4py import MPI
from dist_vgg.comm import tell
for turn in range(100):
    MPI.COMM_WORLD.Barrier()
    tell(f"turn {turn}")
"""


def test_ranks_that_speak_at_once_are_read_line_by_line() -> None:
    status, _, errors = launcher.run(3, "-c", CROWD)
    assert status == 0
    assert sorted(errors.splitlines()) == sorted(f"turn {n}" for n in range(100) for _ in range(3))


def test_an_mpirun_of_another_mpi_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a one starts ranks that each believe to be alone, and would write the same files."""
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "3")
    for rank in (0, 1):
        monkeypatch.setenv("OMPI_COMM_WORLD_RANK", str(rank))
        status, _, errors = launcher.run(1, "-m", "dist_vgg.summary")
        assert status == 2
        if rank:
            assert "error" not in errors  # mpi4py itself warns
        else:
            assert "mpirun has started 3 ranks, and " in launcher.one_line(errors)


def test_a_missing_mpi_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mpi4py.py").write_text("raise ImportError('no libmpi.so')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import runpy; "
    code += "runpy.run_module('dist_vgg.train', run_name='__main__')"
    status, _, errors = launcher.run(3, "-c", code)
    assert status == 2
    assert "no MPI library found (no libmpi.so)" in launcher.one_line(errors)
