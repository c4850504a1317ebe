"""The doctor on real ranks: sound ones, and such as have a fault."""

import json
import os
import sys
from pathlib import Path

import launcher
import pytest

INSIDE = launcher.ROOT / "tests" / "inside_ranks"
SMALL = ("--width", 0.02, "--micro-batch", 2)
# What may be said of the machine that the tests run on, whatever they do.
OF_THIS_MACHINE = ("cores", "exchange", "memory", "speed", "step")


def findings(output: str) -> list[tuple[str, str, str]]:
    """Level, check and words of each line of the report."""
    lines = [line.split(maxsplit=2) for line in output.splitlines()]
    return [(w[0], w[1], w[2]) for w in lines if w and w[0] in ("ok", "warning", "fault")]


def wrong(output: str) -> list[tuple[str, str, str]]:
    """Those that are not ok, beside what this machine is like."""
    return [each for each in findings(output) if each[0] != "ok"
            and (each[0] == "fault" or each[1] not in OF_THIS_MACHINE)]  # fmt: skip


def examined(ranks: int, *options: object) -> tuple[int, str, str]:
    return launcher.run(ranks, "-m", "dist_vgg.doctor", *SMALL, *options)


@pytest.mark.parametrize("ranks", [1, 3])
def test_nothing_is_wrong_here(ranks: int, data: Path, tmp_path: Path) -> None:
    out, file = tmp_path / "made" / "run", tmp_path / "found.json"
    status, output, errors = examined(ranks, "--data", data, "--out", out, "--json", file)
    assert status == 0, output + errors
    assert not wrong(output), output
    assert output.rstrip().splitlines()[-1].startswith("0 faults, ")
    assert not (tmp_path / "made").exists()  # as it was
    found = json.loads(file.read_text())
    assert len(found["ranks"]) == ranks
    assert found["step"]["seconds"] > 0
    assert [each["check"] for each in found["findings"]] == [each[1] for each in findings(output)]


def test_it_starts_ranks_itself(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("localhost\n")
    for options in (("-n", 2), ("-n", 2, "--hostfile", hosts)):
        status, output, errors = examined(1, *options)
        assert status == 0, output + errors
        assert "2 ranks, as mpirun has started" in output


def test_a_host_that_does_not_exist_is_a_line(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("localhost:1\nno-such-host.invalid:1\n")
    status, output, errors = examined(1, "--hostfile", hosts)
    assert (status, errors) == (2, "")
    ((level, check, words),) = findings(output)
    assert (level, check) == ("fault", "hosts")
    assert "nobody knows the name no-such-host.invalid" in words


def test_a_host_without_the_program_is_a_line(
    tmp_path: Path,
) -> None:
    """What stands for mpirun clears the environment, as a login to another host does."""
    mpirun = tmp_path / "mpirun"
    mpirun.write_text('#!/bin/sh\nexec env PYTHONPATH=/nowhere "$5" -I -S -c "$7"\n')
    mpirun.chmod(0o755)
    hosts = tmp_path / "hosts"
    hosts.write_text("localhost\n")
    status, output, _ = examined(1, "--hostfile", hosts, "--mpirun", mpirun)
    assert status == 2
    assert "localhost lacks what ranks import (ModuleNotFoundError" in output


def test_a_host_that_mpirun_cant_reach_is_a_line(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("localhost\n")
    status, output, errors = examined(1, "--hostfile", hosts, "--mpirun", "false")
    assert (status, errors) == (2, "")
    ((_, check, words),) = findings(output)
    assert check == "hosts" and "mpirun can't start a rank on localhost" in words


def test_ranks_that_mpi_does_not_connect_are_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "3")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    status, output, _ = examined(1)  # mpi4py warns, too
    assert status == 2
    ((level, check, words),) = wrong(output)
    assert (level, check) == ("fault", "launch")
    assert "mpirun has started 3 ranks" in words and "use the mpirun that belongs to it" in words


def test_the_mpirun_of_another_mpi_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, ours, _ = launcher.run(1, "-c", "from mpi4py import MPI; print(MPI.Get_library_version())")
    other = "HYDRA build details:" if "Open MPI" in ours else "mpirun (Open MPI) 5.0.3"
    mpirun = tmp_path / "mpirun"
    mpirun.write_text(f"#!/bin/sh\necho '{other}'\n")
    mpirun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    status, output, _ = examined(1)
    assert status == 2
    ((level, _, words),) = wrong(output)
    assert level == "fault" and f"{mpirun} is " in words


def test_data_that_one_rank_lacks_or_has_otherwise(data: Path, tmp_path: Path) -> None:
    first = ("-m", "dist_vgg.doctor", *SMALL, "--data")
    again = (":", "-n", 1, sys.executable, *first)
    status, output, _ = launcher.run(-1, *first, data, *again, tmp_path / "none")
    assert status == 2
    ((level, check, words),) = wrong(output)
    assert (level, check) == ("fault", "data")
    assert words.startswith("rank 1 on ") and "no data folder" in words


def test_a_folder_that_cant_be_written_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    status, output, _ = examined(2, "--out", tmp_path / "file" / "run")
    assert status == 2
    ((level, check, words),) = wrong(output)
    assert (level, check) == ("fault", "out")
    assert "Not a directory" in words


# Several at once, since to start ranks takes longest.
SICK: list[tuple[int, dict[str, tuple[str, str]]]] = [
    (0, {"clock": ("clocks", "node2 is 60 s ahead of node1"),
         "locks": ("out", "a lock of the folder keeps nobody out on node2"),
         "name": ("network", "node2 can't resolve the name node1"),
         "slow": ("speed", "rank 2 on node2 multiply at")}),
    (0, {"little shared memory": ("memory", "standby none"),
         "elsewhere": ("out", "node2 can't see what rank 0 writes")}),
    (2, {"version": ("program", "ranks differ in the version of dist_vgg: ")}),
    (2, {"kernels": ("program", "ranks differ in the kernels: "),
         "bits": ("exchange", "the sum over ranks is wrong: what rank 2 adds has")}),
    (2, {"refused memory": ("memory", "does not give")}),
]  # fmt: skip


@pytest.mark.parametrize(("ended", "things"), SICK, ids=lambda value: ",".join(value or "-")
                         if isinstance(value, dict) else "")  # fmt: skip
def test_what_is_wrong_with_a_host_is_found(
    ended: int, things: dict[str, tuple[str, str]], tmp_path: Path
) -> None:
    script = INSIDE / "sick_doctor.py"
    options = (",".join(things) or "nothing", *SMALL, "--out", "run")
    status, output, errors = launcher.run(3, script, *options, cwd=tmp_path)
    assert status == ended, output + errors
    found = [each for each in findings(output) if each[0] != "ok"]
    for check, words in things.values():
        assert any(each[1] == check and words in each[2] for each in found), output
    expected = {check for check, _ in things.values()}
    assert {each[1] for each in wrong(output)} <= expected, output


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_two_ranks_on_one_core_are_a_fault() -> None:
    status, output, _ = launcher.run(2, INSIDE / "sick_doctor.py", "bound", *SMALL)
    assert status == 2
    ((level, check, words),) = wrong(output)
    assert (level, check) == ("fault", "cores")
    assert words.startswith("ranks 0-1 on ") and "are bound to 1 core" in words


def test_mistakes_are_one_line() -> None:
    for ranks in (1, 2):
        status, output, errors = examined(ranks, "--dta", "x")
        assert (status, output) == (2, "")
        assert "unknown option --dta; did you mean --data?" in launcher.one_line(errors)
    status, _, errors = examined(2, "-n", 2)
    assert status == 2
    assert "start it without mpirun" in launcher.one_line(errors)
    status, _, errors = examined(1, "-n", 0)
    assert "-n 0: start at least 1 rank" in launcher.one_line(errors)
