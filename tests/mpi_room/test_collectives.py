"""What ranks say reaches the user; the rest of comm is in inside_ranks/check_comm.py."""

from fnmatch import fnmatch
from pathlib import Path

import launcher
import pytest

from dist_vgg.base.launcher import launched

CROWD = """
from mpi4py import MPI
from dist_vgg.base.command_line import tell
for turn in range(100):
    MPI.COMM_WORLD.Barrier()
    tell(f"turn {turn}")
"""


def test_ranks_that_speak_at_once_are_read_line_by_line() -> None:
    status, _, errors = launcher.run(3, "-c", CROWD)
    assert status == 0
    assert sorted(errors.splitlines()) == sorted(f"turn {n}" for n in range(100) for _ in range(3))


# What each launcher sets; a batch script's own SLURM_NTASKS is of no launcher.
OPEN_MPI = {"OMPI_COMM_WORLD_RANK": "RANK", "OMPI_COMM_WORLD_SIZE": "3"}
PMI = {"PMI_RANK": "RANK", "PMI_SIZE": "3"}
SRUN = {"SLURM_PROCID": "RANK", "SLURM_STEP_NUM_TASKS": "3", "SLURM_NTASKS": "3"}
BATCH = {"SLURM_PROCID": "0", "SLURM_NTASKS": "3", "SLURM_TASKS_PER_NODE": "3"}
ONE = {"PMI_RANK": "0", "PMI_SIZE": "1"}


@pytest.fixture
def unlaunched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever starts the tests is none of the launchers that they pretend."""
    for name in [*OPEN_MPI, *PMI, *SRUN, "PMIX_RANK"]:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("unlaunched")
@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, (0, 1, "")),
        (BATCH, (0, 1, "")),  # --debug, evaluate, elastic in a job of three tasks
        (SRUN, (2, 3, "srun")),
        ({**SRUN, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, (0, 1, "srun")),
        (PMI, (2, 3, "mpirun")),
        ({**SRUN, **PMI}, (2, 3, "srun")),  # srun --mpi=pmi2
        ({**SRUN, "PMI_RANK": "1", "PMI_SIZE": "6"}, (1, 6, "mpirun")),
        (OPEN_MPI, (2, 3, "mpirun")),
        ({**SRUN, **ONE}, (0, 1, "mpirun")),  # mpirun -n 1 that has started its proxy by srun
        ({"PMIX_RANK": "2"}, (2, 3, "mpirun")),
        ({**SRUN, "PMIX_RANK": "2"}, (2, 3, "srun")),
    ],
)
def test_the_nearest_launcher_decides(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], found: tuple[int, int, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value.replace("RANK", "2"))
    assert launched()[:3] == found


@pytest.mark.usefixtures("unlaunched")
@pytest.mark.parametrize("command", ["train", "evaluate", "replay"])
@pytest.mark.parametrize(
    ("environment", "mend"),
    [
        (OPEN_MPI, "mpirun has started 3 ranks, and * use the mpirun that belongs to it"),
        (SRUN, "srun has started 3 ranks, and * start them with srun --mpi=pmi"),
    ],
)
def test_a_world_of_one_among_several_is_refused(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], mend: str, command: str
) -> None:
    """Each such rank believes to be alone, and would train by itself, in the same files."""
    for rank in (0, 1):
        for name, value in environment.items():
            monkeypatch.setenv(name, value.replace("RANK", str(rank)))
        status, _, errors = launcher.run(1, "-m", f"dist_vgg.{command}", "runs/none")
        assert status == 2
        if rank:
            assert not errors
        else:
            assert fnmatch(launcher.one_line(errors), f"*{mend}*")


@pytest.mark.usefixtures("unlaunched")
def test_an_mpich_that_knows_no_pmix_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Left alone, it would end the process with words of its own."""
    version = launcher.run(1, "-c", "from mpi4py import MPI; print(MPI.Get_library_version())")[1]
    if "MPICH configure:" not in version or "pmix" in version.lower():
        pytest.skip("this MPI is no MPICH, or knows PMIx")
    for name, value in {**OPEN_MPI, "PMIX_RANK": "0", "PMIX_NAMESPACE": "job"}.items():
        monkeypatch.setenv(name, value.replace("RANK", "0"))
    status, _, errors = launcher.run(1, "-m", "dist_vgg.train")
    assert status == 2
    assert "mpirun has started 3 ranks, and MPICH" in launcher.one_line(errors)


def test_a_missing_mpi_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mpi4py.py").write_text("raise ImportError('no libmpi.so')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import runpy; "
    code += "runpy.run_module('dist_vgg.train', run_name='__main__')"
    status, _, errors = launcher.run(3, "-c", code)
    assert status == 2
    assert "no MPI library found (no libmpi.so)" in launcher.one_line(errors)
