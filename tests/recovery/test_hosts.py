"""The hosts of a job: read from a hostfile, asked after a loss, and each given its ranks."""

import signal
import time
from pathlib import Path

import pytest
from fake_jobs import fake_mpirun, finish, run, start
from launcher import one_line

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


def test_lost_host_is_left_out(tmp_path: Path) -> None:
    script = f"""
    case "$*" in *"-host b true") exit 1;; *" true") exit 0;; esac
    echo "$SLURM_OVERLAP $1 $2 $3 $4" >> {tmp_path}/calls
    [ "$1" = -hostfile ] && exit 255
    shift 4; PMI_RANK=0 PMI_SIZE=1 exec "$@" """
    mpirun = fake_mpirun(tmp_path / "mpirun", script)
    (tmp_path / "machines").write_text("a:3\nb:2\nc:1\n")
    options = ("--mpirun", mpirun, "--hostfile", tmp_path / "machines")
    status, output, errors = run("-n", 6, *options, "--", "--out", tmp_path / "run")
    assert status == 0, errors
    first, second = (tmp_path / "calls").read_text().splitlines()
    assert first == f"1 -hostfile {tmp_path}/machines -n 6"
    assert second == "1 -host a:3,c:1 -n 4"
    assert "no answer from b" in output


def test_signal_is_heard_while_no_host_answers(tmp_path: Path) -> None:
    mpirun = fake_mpirun(tmp_path / "mpirun", 'case "$*" in *" true") exit 1;; esac; exit 255')
    (tmp_path / "machines").write_text("a\n")
    options = ("--mpirun", mpirun, "--hostfile", tmp_path / "machines", "--max-restarts", 4)
    status, _, errors = run("-n", 1, *options, "--", "--out", tmp_path / "run")
    assert status == 2
    assert "no host answers of a; see --hostfile" in one_line(errors)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text('{"kind": "step", "step": 1}\n')
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
