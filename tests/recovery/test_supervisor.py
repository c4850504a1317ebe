"""Starting again: what each end of a job leads to."""

import json
import os
import re
import subprocess
from pathlib import Path

import launcher
import pytest
from fake_jobs import FAKE, run, start, starts
from training import EPOCHS, SMALL

from dist_vgg.recovery.ending import last_step


@pytest.mark.alone
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
    lost = re.search(r"lost a rank \((?:(rank \d+) ended first; )?mpirun (ended|hung)", output)
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
    assert output.count("training can't go on (mpirun ended with status 2)") == 3
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


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/a \xff'\xc3\xa4"
    environ = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [*map(os.fsencode, launcher.command(1, "-c", FAKE, "-n", 2, "--max-restarts", 0))]
    command += [b"--", b"--out", folder, b"--mishap", b"kill"]
    environ |= {**launcher.FOR_MPI, "PYTHONPATH": str(launcher.ROOT)}
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


def test_a_reader_who_leaves_costs_one_start(data: Path, tmp_path: Path) -> None:
    run = ("--data", data, "--out", tmp_path / "run", *SMALL, *EPOCHS)
    process = launcher.start(1, "-m", "dist_vgg.elastic", "-n", 2, "--", *run)
    assert process.stdout and process.stdout.readline()
    process.stdout.close()  # as `| head -1` does
    assert process.wait(timeout=60) == 0
    lines = (tmp_path / "run" / "elastic.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["event"] == "start" for line in lines) == 2
