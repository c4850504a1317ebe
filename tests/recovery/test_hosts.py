"""The hosts of a job: read from a hostfile, asked after a loss, and each given its ranks."""

import shlex
import signal
import sys
import time
from pathlib import Path

import pytest
from fake_jobs import fake_mpirun, finish, run, start
from launcher import one_line

from dist_vgg.base.errors import RankError
from dist_vgg.recovery.hosts import Hosts, spread_ranks


@pytest.mark.parametrize(
    ("hostfile", "slots"),
    [
        ("n1:4 user=me\n\n# all\nn2:2", [4, 2]),
        ("n1 slots=4 max_slots=8 # new\nn2 max-slots=9", [4, 3]),
        ("n1 max_slots=8 slots = 4\nn2 binding=user:0", [4, 3]),
    ],
)
def test_hostfiles_of_both_mpis(hostfile: str, slots: list[int], tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(hostfile)
    hosts = Hosts(str(tmp_path / "hosts"), ranks=6)
    assert (hosts.names, hosts.slots) == (["n1", "n2"], slots)


def test_every_host_that_can_keeps_a_rank() -> None:
    assert spread_ranks([2, 2, 2], 6) == [2, 2, 2]
    assert spread_ranks([2, 2, 2], 4) == [2, 1, 1]
    assert spread_ranks([1, 4, 0], 3) == [1, 2, 0]
    assert spread_ranks([2, 2, 2], 2) == [1, 1, 0]


def falling_silent(folder: Path, *names: str, status: int = 255) -> Path:
    """An mpirun whose first job ends at once, whereafter these hosts answer no more."""
    script = f"""
    case "$*" in
    *"import dist_vgg")
        [ -e {folder}/down ] && case " {" ".join(names)} " in *" $4 "*) exit 1;; esac
        exit 0;;
    esac
    echo "$SLURM_OVERLAP $1 $2 $3 $4" >> {folder}/calls
    [ -e {folder}/down ] || {{ touch {folder}/down; exit {status}; }}
    shift 4; PMI_RANK=0 PMI_SIZE=1 exec "$@" """
    (folder / "machines").write_text("a:3\nb:2\nc:1\n")
    return fake_mpirun(folder / "mpirun", script)


def test_lost_host_is_left_out(tmp_path: Path) -> None:
    options = ("--mpirun", falling_silent(tmp_path, "b"), "--hostfile", tmp_path / "machines")
    status, output, errors = run("-n", 6, *options, "--", "--out", tmp_path / "run")
    assert status == 0, errors
    first, second = (tmp_path / "calls").read_text().splitlines()
    assert first == f"1 -hostfile {tmp_path}/machines -n 6"
    assert second == "1 -host a:3,c:1 -n 4"
    assert "no answer from b" in output


def test_hosts_that_answer_keep_a_rank_where_one_is_lost(tmp_path: Path) -> None:
    """Each holds a part of the state."""
    mpirun = falling_silent(tmp_path, status=RankError.STALLED)
    (tmp_path / "machines").write_text("a:1\nb:1\nc:1\n")
    options = ("--mpirun", mpirun, "--hostfile", tmp_path / "machines")
    status, output, errors = run("-n", 3, *options, "--", "--out", tmp_path / "run")
    assert status == 0, errors
    assert (tmp_path / "calls").read_text().splitlines()[1] == "1 -host a:1,b:1,c:1 -n 3"
    assert "a rank stalled" in output


def test_new_run_needs_all_hosts(tmp_path: Path) -> None:
    options = ("--mpirun", falling_silent(tmp_path, "b", "c"), "--hostfile", tmp_path / "machines")
    (tmp_path / "down").touch()
    words = ("-n", 6, *options, "--", "--out", tmp_path / "run")
    status, _, errors = run(*words)
    assert status == 2
    line = one_line(errors)
    assert f"no answer from b, c of --hostfile {tmp_path}/machines; see that this works" in line
    assert shlex.split(line)[-2:] == ["b", f"{sys.executable} -c 'import dist_vgg'"]
    assert not (tmp_path / "run").exists() and not (tmp_path / "calls").exists()
    # One that has begun goes on with those that answer.
    begin(tmp_path / "run")
    status, output, errors = run(*words)
    assert status == 0, errors
    assert (tmp_path / "calls").read_text() == "1 -host a:3 -n 3\n"
    assert "no answer from b, c" in output


def begin(folder: Path) -> None:
    """Leave what a run records after a step."""
    folder.mkdir()
    (folder / "metrics.jsonl").write_text('{"kind": "step", "step": 1}\n')


def test_signal_is_heard_while_no_host_answers(tmp_path: Path) -> None:
    mpirun = falling_silent(tmp_path, "a", "b", "c")
    options = ("--mpirun", mpirun, "--hostfile", tmp_path / "machines", "--max-restarts", 4)
    begin(tmp_path / "run")
    process = start("-n", 1, *options, "--", "--out", tmp_path / "run")
    log = tmp_path / "run" / "elastic.jsonl"
    end = time.monotonic() + 20
    while not (log.exists() and "ended" in log.read_text()):
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    status, output, errors = finish(process)
    assert status == 130, errors
    assert "stopped by Ctrl-C" in output
    assert "restart 4" not in output
