"""What a run leaves to read, and what a person sees of it."""

import errno
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dist_vgg.base import files
from dist_vgg.base import progress as progress_module
from dist_vgg.runs.log import RunLog, read_metrics


@pytest.fixture(autouse=True)
def nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests may themselves run in a terminal, or under mpirun in one."""
    monkeypatch.setattr(progress_module, "_terminal", lambda: None)


def step(number: int, **more: Any) -> dict[str, Any]:
    return dict(step=number, epoch=1, loss=2.5, accuracy=0.25, images_per_s=12.34, **more)


def epoch(step: int, number: int = 1) -> dict[str, Any]:
    return dict(step=step, epoch=number, loss=2.5, accuracy=0.25)


def opened(folder: Path | None, first: int = 0, progress: str = "none") -> RunLog:
    return RunLog(folder, first, steps=40, epochs=2, progress=progress)


def test_each_record_is_a_line_of_json(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.step(step(1, lr=0.1))
    # A run that is killed has its lines on the disk already.
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1
    log.step(step(2))
    log.epoch(epoch(2), "epoch 1 of 2")
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["step", "step", "epoch"]
    assert lines[0] == dict(kind="step", **step(1, lr=0.1))
    assert read_metrics(tmp_path, "step") == lines[:2]
    assert read_metrics(tmp_path, "epoch") == lines[2:]


def test_going_on_drops_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    log = opened(tmp_path)
    for number in (1, 2, 3):
        log.step(step(number))
    log.epoch(epoch(3), "")
    log.step(step(4))
    log.close()
    path = tmp_path / "metrics.jsonl"
    with path.open("a") as file:
        file.write('{"kind": "step", "step": 5, "lo')  # torn by the end of the process
    whole = path.read_text()

    opened(tmp_path, first=4).close()
    assert path.read_text() == whole[: whole.rindex('{"kind"')]
    opened(tmp_path, first=3).close()
    assert [r["step"] for r in read_metrics(tmp_path, "step")] == [1, 2, 3]
    assert [r["step"] for r in read_metrics(tmp_path, "epoch")] == [3]
    log = opened(tmp_path, first=2)
    log.step(step(3, again=True))
    log.close()
    assert read_metrics(tmp_path, "step") == [
        dict(kind="step", **record) for record in (step(1), step(2), step(3, again=True))
    ]
    assert read_metrics(tmp_path, "epoch") == []


def test_a_torn_line_never_becomes_part_of_the_next(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"kind": "step", "step": 1')
    log = opened(tmp_path, first=1)
    log.step(step(2))
    log.close()
    assert [r["step"] for r in read_metrics(tmp_path, "step")] == [2]


class FullDisk(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_said_once_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = opened(tmp_path)
    log.step(step(1))
    monkeypatch.setattr(log, "_file", FullDisk())
    for number in (2, 3):
        log.step(step(number))
    log.epoch(epoch(3), "the end")
    log.close()
    line = "metrics.jsonl can't be written (No space left on device); going on without\n"
    assert capsys.readouterr().out == line


def test_a_full_disk_is_no_reason_not_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened(tmp_path).close()

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "fsync", full)
    log = opened(tmp_path)
    log.step(step(1))
    log.close()
    (line,) = capsys.readouterr().out.splitlines()
    assert "metrics.jsonl can't be written (can't write" in line
    assert "No space left on device" in line


def test_the_end_of_a_run_that_goes_on_is_forgotten(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.step(step(1))
    log.stopped(1, 15)
    log.close()
    assert read_metrics(tmp_path, "stopped") == [dict(kind="stopped", step=1, signal=15)]
    opened(tmp_path, first=1).close()
    assert read_metrics(tmp_path, "stopped") == []
    assert len(read_metrics(tmp_path, "step")) == 1


def test_ranks_but_the_first_write_and_show_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    log = opened(None, progress="live")
    log.step(step(1))
    log.epoch(epoch(1), "epoch 1")
    log.close()
    assert capsys.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("progress", ["plain", "auto"])
def test_plain_lines_come_now_and_then(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    progress: str,
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    log = opened(tmp_path, progress=progress)
    for number in range(1, 11):
        now += 4
        log.step(step(number))
    log.epoch(epoch(10), "epoch 1/2: done")
    log.close()
    line = "epoch 1/2 loss 2.5000 training accuracy 25.0% 12.3 images/s, {} of 40"
    assert capsys.readouterr().out.splitlines() == [
        line.format(4),  # more than 15 s after the start, then after the line before
        line.format(8),
        "epoch 1/2: done",
    ]


def test_no_progress_shows_nothing_but_what_must_be_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress_module, "PLAIN_SECONDS", -1)
    log = opened(tmp_path)
    log.step(step(1))
    log.epoch(epoch(1), "epoch 1/2: done")
    log.say("a word")
    log.close()
    assert capsys.readouterr().out == "a word\n"


def test_the_live_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = opened(tmp_path, first=5, progress="live")
    for number in (6, 7):
        log.step(step(number))
        time.sleep(0.21)  # the bar is drawn at most every 0.2 s
    log.step(step(8))
    log.epoch(epoch(8), "epoch 1/2: done")
    log.close()
    output, errors = capsys.readouterr()
    assert errors == ""
    # Each line is what is left after the last carriage return of it.
    states = output.replace("\n", "\r").split("\r")
    drawn = [state for state in states if "|" in state]
    assert "5/40" in drawn[0]
    assert "epoch 1/2 loss 2.5000 training accuracy 25.0% 12.3 images/s" in drawn[-1]
    assert "8/40" in drawn[-1] and "left" in drawn[-1]
    assert states.count("epoch 1/2: done") == 1  # on a line of its own
    assert max(map(len, drawn)) < 100


@pytest.fixture
def through(tmp_path: Path) -> Callable[[str, int], str]:
    """Ask a process what terminal it has, when a program of some name stands between."""

    def ask(name: str, output: int) -> str:
        answer = tmp_path / "answer"
        script = tmp_path / name
        code = (
            "import pathlib, sys; from dist_vgg.base import progress; "
            "pathlib.Path(sys.argv[1]).write_text(str(progress._terminal()))"
        )
        # As under mpirun, the rank's own output is a pipe.
        script.write_text(f"#!/bin/sh\n'{sys.executable}' -c '{code}' '{answer}' | cat\n:\n")
        script.chmod(0o755)
        root = Path(__file__).parents[2]
        subprocess.run([script], stdout=output, stdin=subprocess.DEVNULL, cwd=root, check=True)
        return answer.read_text()

    return ask


@pytest.mark.skipif(not Path("/proc/self/comm").exists(), reason="needs Linux's /proc")
def test_a_person_before_mpirun_is_found(through: Callable[[str, int], str]) -> None:
    person, terminal = os.openpty()
    try:
        assert through("mpirun", terminal) == os.ttyname(terminal)
    finally:
        os.close(person)
        os.close(terminal)


@pytest.mark.skipif(not Path("/proc/self/comm").exists(), reason="needs Linux's /proc")
def test_a_log_file_of_mpirun_is_no_person(
    through: Callable[[str, int], str], tmp_path: Path
) -> None:
    with (tmp_path / "log").open("w") as file:
        assert through("mpirun", file.fileno()) == "None"
