"""Starting again: what each end of a job leads to, and that nothing is left behind."""

import json
import mmap
import os
import platform
import re
import select
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import launcher
import pytest
from launcher import one_line

from dist_vgg.base.errors import signal_name
from dist_vgg.recovery import supervisor
from dist_vgg.recovery.supervisor import Hosts, last_step, spread

FAKE = """
import sys
from dist_vgg.elastic import main
sys.exit(main(sys.argv[1:], module="tests.inside_ranks.fake_train", patience=1))
"""


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test has started is known by a variable, and ended with it."""
    monkeypatch.setenv("TEST_ELASTIC", str(os.getpid()))
    yield
    end_all()


def alive() -> list[int]:
    """The processes that a test has started."""
    mark = f"TEST_ELASTIC={os.getpid()}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            environ = (path / "environ").read_bytes().split(b"\0")
            found += [int(path.name)] if mark in environ else []
    return found


def end_all() -> None:
    for pid in alive():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def start(*arguments: object) -> "subprocess.Popen[str]":
    """Start the supervisor of a fake training."""
    return launcher.start(1, "-c", FAKE, *arguments)


def finish(process: "subprocess.Popen[str]", timeout: float = 30) -> tuple[int, str, str]:
    """Wait for its end: status, output and errors. Orphans would keep its output open."""
    timer = threading.Timer(timeout, end_all)
    timer.start()
    result = launcher.finish(process)
    timer.cancel()
    return result


def run(*arguments: object) -> tuple[int, str, str]:
    """Run it to its end."""
    return finish(start(*arguments))


def starts(folder: Path, name: str, rank: int = 0) -> list[Any]:
    """What a rank noted at each start of it: size, resume or pid."""
    files = sorted((folder / "starts").glob(f"{rank}-*"))
    return [json.loads(file.read_text())[name] for file in files]


def wait_for_step(folder: Path, step: int) -> None:
    end = time.monotonic() + 20
    while last_step(folder) < step:
        assert time.monotonic() < end, f"no step {step}"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("ranks", "options", "sizes"),
    [
        (1, (), [1, 1]),
        (3, (), [3, 2]),
        (8, (), [8, 7]),
        (3, ("--replace",), [3, 3]),
        (3, ("--min-ranks", 3), [3, 3]),
    ],
)
def test_goes_on_without_a_killed_rank(
    ranks: int, options: tuple[object, ...], sizes: list[int], tmp_path: Path
) -> None:
    status, output, errors = run("-n", ranks, *options, "--", "--out", tmp_path, "--mishap", "kill")
    assert status == 0, errors
    # On a busy machine it may be lost before all are known, and is then not named; or another is,
    # killed by an mpirun that was faster than its end; and mpirun's own end may take too long.
    lost = re.search(r"a rank lost \((?:(rank \d+) ended first; )?mpirun (ended|was)", output)
    assert lost and (lost[1] in (None, f"rank {ranks - 1}") or ranks == 8)
    size = "1 rank" if sizes[1] == 1 else f"{sizes[1]} ranks"
    assert f"starting again on {size}, restart 1 of 10" in output
    assert starts(tmp_path, "size") == sizes
    assert starts(tmp_path, "resume") == ["if-any", "if-any"]
    assert last_step(tmp_path) == 4
    log = [json.loads(line) for line in (tmp_path / "elastic.jsonl").read_text().splitlines()]
    assert [r["event"] for r in log] == ["start", "ended", "start", "ended", "exit"]
    assert [r["ranks"] for r in log if r["event"] == "start"] == sizes
    assert 0 <= log[2]["seconds"] < 5


@pytest.mark.parametrize(
    ("mishap", "sizes"),
    [
        ("0", [2, 2]),
        ("1", [2, 2]),
        ("71", [2, 1]),
        ("72", [2, 2]),
        ("6", [2, 1]),  # SIGABRT, as MPICH has it
        ("2", [2]),
        ("70", [2]),
        ("143", [2]),
    ],
)
def test_each_status_has_its_answer(mishap: str, sizes: list[int], tmp_path: Path) -> None:
    status, _, errors = run("-n", 2, "--", "--out", tmp_path, "--mishap", mishap)
    assert status == (0 if len(sizes) == 2 else int(mishap)), errors
    assert starts(tmp_path, "size") == sizes


def test_a_job_that_others_stop_is_not_started_again(tmp_path: Path) -> None:
    # Open MPI's mpirun ends with 1 at Ctrl-C, whatever its ranks end with.
    (tmp_path / "metrics.jsonl").write_text('{"kind": "stopped", "step": 3, "signal": 15}\n')
    status, output, _ = run("-n", 1, "--", "--out", tmp_path, "--mishap", "1", "--after", 0)
    assert status == 143
    assert "stopped by SIGTERM after step 3; go on with: python -m dist_vgg.elastic" in output


def test_what_was_no_mistake_at_first_is_tried_again(tmp_path: Path) -> None:
    # As where a file server is away for a moment.
    options = ("--out", tmp_path, "--steps", 9, "--after", 1)
    status, output, errors = run("-n", 2, "--", *options, "--mishap", "kill,2,2,kill,2")
    assert status == 0, errors
    assert output.count("it can't go on (mpirun ended with 2)") == 3
    assert starts(tmp_path, "size") == [2, 1, 1, 1, 1, 1]


def test_a_mistake_that_stays_is_told(tmp_path: Path) -> None:
    options = ("--out", tmp_path, "--after", 0)
    status, _, errors = run("-n", 1, "--", *options, "--mishap", "kill,2,2,2,2")
    assert status == 2, errors
    assert starts(tmp_path, "size") == [1, 1, 1, 1]


def test_gives_up_and_can_go_on(tmp_path: Path) -> None:
    options = ("--out", tmp_path, "--resume", "--steps", 10)
    status, output, errors = run(
        "-n", 3, "--max-restarts", 2, "--", *options, "--mishap", "kill", "--times", 9
    )
    assert status == 75
    assert "gave up after 2 restarts" in errors
    assert "on 1 rank, restart 2 of 2" in output  # at once, since there was progress
    assert f"python -m dist_vgg.elastic -n 3 --max-restarts 2 -- --out {tmp_path}" in errors
    assert starts(tmp_path, "size") == [3, 2, 1]
    assert starts(tmp_path, "resume") == ["needed", "if-any", "if-any"]
    assert last_step(tmp_path) == 6
    status, _, errors = run("-n", 2, "--", *options)
    assert status == 0, errors
    assert last_step(tmp_path) == 10


def test_waits_longer_while_there_is_no_progress(tmp_path: Path) -> None:
    status, output, errors = run(
        "-n", 1, "--", "--out", tmp_path, "--mishap", 1, "--after", 0, "--times", 2
    )
    assert status == 0, errors
    assert "on 1 rank, restart 1 of 10" in output
    assert "on 1 rank in 1 s, restart 2 of 10" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_signal_is_passed_on_once(number: signal.Signals, tmp_path: Path) -> None:
    process = start("-n", 3, "--", "--out", tmp_path, "--steps", 999)
    wait_for_step(tmp_path, 2)
    os.killpg(process.pid, number)  # as a terminal does
    status, output, errors = finish(process, timeout=20)
    assert status == 128 + number, errors
    assert f"stopped by {signal_name(number)}" in output
    # Open MPI sends SIGTERM to the last ones when the first has ended.
    assert (tmp_path / "received").read_text().count("SIGUSR1") == 3
    assert "SIGINT" not in (tmp_path / "received").read_text()
    assert starts(tmp_path, "size") == [3]


def test_end_of_a_ranks_child_is_no_loss(tmp_path: Path) -> None:
    status, output, errors = run("-n", 1, "--", "--out", tmp_path, "--fork", "--steps", 50)
    assert status == 0, errors
    assert "elastic:" not in output


def test_two_signals_at_once_are_both_handed_on(tmp_path: Path) -> None:
    process = start("-n", 3, "--", "--out", tmp_path, "--steps", 999)
    wait_for_step(tmp_path, 2)
    os.kill(process.pid, signal.SIGINT)
    os.kill(process.pid, signal.SIGTERM)
    assert finish(process, timeout=10)[0] in (130, 143)
    assert (tmp_path / "received").read_text().count("SIGUSR1") == 3
    assert not alive()


def test_second_signal_ends_at_once(tmp_path: Path) -> None:
    process = start("-n", 3, "--", "--out", tmp_path, "--steps", 999, "--deaf")
    wait_for_step(tmp_path, 2)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert finish(process, timeout=5)[0] == 130
    assert not alive()


def test_job_saves_and_ends_with_its_supervisor(tmp_path: Path) -> None:
    process = start("-n", 3, "--", "--out", tmp_path, "--steps", 30)
    wait_for_step(tmp_path, 2)
    assert "by another dist_vgg.elastic" in one_line(run("-n", 1, "--", "--out", tmp_path)[2])
    process.kill()
    process.wait()
    end = time.monotonic() + 10
    while alive():
        assert time.monotonic() < end, "orphans"
        time.sleep(0.05)
    # Open MPI sends SIGTERM to the last ones when the first has ended.
    assert (tmp_path / "received").read_text().count("SIGUSR1") == 3
    status, _, errors = run("-n", 2, "--", "--out", tmp_path, "--steps", 30)
    assert status == 0, errors
    assert starts(tmp_path, "size") == [3, 2]


@pytest.mark.parametrize("ranks", [1, 3])
def test_stopped_rank_is_found(ranks: int, tmp_path: Path) -> None:
    options = ("--out", tmp_path, "--mishap", "stop", "--stall-timeout", 0.5)
    status, output, errors = run("-n", ranks, "--", *options)
    assert status == 0, errors
    pid = starts(tmp_path, "pid", ranks - 1)[0]
    assert f"rank {ranks - 1} on {platform.node()} (pid {pid}) has been stopped for " in output
    assert starts(tmp_path, "size") == [ranks, max(1, ranks - 1)]


def fake_mpirun(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_the_first_to_end_is_named_where_all_were_seen(tmp_path: Path) -> None:
    job = supervisor.Job(tmp_path, "module")
    ranks = [subprocess.Popen(["sleep", "60"]) for _ in range(3)]
    for number, rank in enumerate(ranks):
        job.names[rank.pid] = f"rank {number}"
        job._watched[descriptor := os.pidfd_open(rank.pid)] = rank.pid
        job._ends.register(descriptor, select.EPOLLIN)
    for rank in reversed(ranks):
        rank.kill()
        rank.wait()
    job.mpirun = subprocess.Popen(["sleep", "1"])
    job.watch([], 0, 60)
    job.size = 3
    assert job.loss("why") == "a rank lost (rank 2 ended first; why)"
    job.size = 4
    assert job.loss("why") == "a rank lost (why)"


def test_hung_mpirun_is_ended(tmp_path: Path) -> None:
    script = 'shift 2; PMI_RANK=0 PMI_SIZE=1 "$@" & sleep 60'
    mpirun = fake_mpirun(tmp_path / "mpirun", script)
    options = ("--mpirun", mpirun, "--max-restarts", 0)
    status, _, errors = run("-n", 1, *options, "--", "--out", tmp_path / "run", "--mishap", "kill")
    assert status == 75
    assert "a rank lost (rank 0 ended first; mpirun was still there and was ended)" in errors
    assert not alive()


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
    assert spread([2, 2, 2], 6) == [2, 2, 2]
    assert spread([2, 2, 2], 4) == [2, 1, 1]
    assert spread([1, 4, 0], 3) == [1, 2, 0]
    assert spread([2, 2, 2], 2) == [1, 1, 0]


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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-n", 2), "options go behind --"),
        (("-n", 1, "--min-ranks", 2, "--"), "less than --min-ranks"),
        (("-n", 1, "--min-rank", 2, "--"), "did you mean --min-ranks"),
        (("--",), "required: -n"),
        (("-n", 1, "--mpirun", "/no/mpirun", "--"), "no /no/mpirun found; pip install"),
        (("-n", 1, "--hostfile", "/bin/ls", "--"), "can't read the hosts"),
        (("-n", 1, "--", "--help"), "python -m dist_vgg.train --help"),
        (("-n", 1, "--", "--out", "LOOP"), "can't use the run's folder"),
        (("-n", 1, "--", "--debug"), "python -m dist_vgg.train --debug"),
        (("-n", 1, "--", "--resume"), "name the run to resume with --out"),
        (("-n", 1, "--hostfile", "/no/hosts", "--"), "/no/hosts"),
        (("-n", 1, "--mpirun", "false", "--", "--out", "OUT"), "mpirun started no rank"),
    ],
)
def test_mistakes_get_one_line(arguments: tuple[object, ...], words: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (tmp_path / "loop").symlink_to("loop")
    paths = {"OUT": folder, "LOOP": tmp_path / "loop"}
    status, _, errors = run(*(paths.get(str(word), word) for word in arguments))
    assert status == 2
    assert words in one_line(errors)
    assert not folder.exists()


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/a \xff'\xc3\xa4"
    environ = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [*map(os.fsencode, launcher.command(1, "-c", FAKE, "-n", 2, "--max-restarts", 0))]
    command += [b"--", b"--out", folder, b"--mishap", b"kill"]
    environ |= {**launcher.OPEN_MPI, "PYTHONPATH": str(launcher.ROOT)}
    ended = subprocess.run(command, env=environ, cwd=launcher.ROOT, capture_output=True)
    assert ended.returncode == 75, ended.stderr
    assert b"gave up after 0 restarts" in ended.stderr
    assert b"Traceback" not in ended.stderr


def test_a_reader_who_leaves_ends_nothing(tmp_path: Path) -> None:
    process = start("-n", 2, "--", "--out", tmp_path, "--mishap", "kill")
    assert process.stdout
    process.stdout.close()
    assert process.wait(timeout=30) == 0
    assert len(starts(tmp_path, "size")) >= 2  # mpirun itself may have minded


def test_names_that_mpi_left_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor.shm, "SHM", tmp_path)
    paths = {name: tmp_path / f"mpich_sh{name}" for name in ("used", "old", "left", "young")}
    for path in paths.values():
        path.write_bytes(bytes(100))
        os.utime(path, (3000, 3000))
    os.utime(paths["old"], (1000, 1000))
    paths["young"].touch()
    with paths["used"].open("r+b") as file, mmap.mmap(file.fileno(), 100):
        supervisor._unlink_unused_memory(2000)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["mpich_shold", "mpich_shused", "mpich_shyoung"]


def test_last_step_passes_over_a_torn_line(tmp_path: Path) -> None:
    assert last_step(tmp_path) == 0
    lines = "".join(json.dumps({"kind": "step", "step": n}) + "\n" for n in range(1, 9999))
    (tmp_path / "metrics.jsonl").write_text(lines + '{"kind": "st')
    assert last_step(tmp_path) == 9998


def test_leftovers_of_a_dead_supervisor_are_ended_first(tmp_path: Path) -> None:
    environ = {**os.environ, "DIST_VGG_ELASTIC": str(tmp_path)}
    left = subprocess.Popen(["sleep", "1"], env=environ)
    # One of them is a rank, whose end is watched for.
    environ |= dict(PMI_RANK="0", PMI_SIZE="1", PYTHONPATH=str(launcher.ROOT))
    options = ("--out", str(tmp_path / "other"), "--steps", "5")
    command = [sys.executable, "-m", "tests.inside_ranks.fake_train", *options]
    rank = subprocess.Popen(command, env=environ, cwd=launcher.ROOT)
    status, output, errors = run("-n", 1, "--", "--out", tmp_path)
    assert status == 0, errors
    assert "waiting for the job of an earlier start" in output
    assert left.wait() == rank.wait() == 0
