"""Whatever ends data_prep midway, the folder stays as it was."""

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from preparing import Run, content, start

from data_prep import writing

pytestmark = pytest.mark.usefixtures("quick_disk")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
@pytest.mark.parametrize("first", [True, False])
def test_an_error_in_the_middle_leaves_what_was_there(
    run: Run,
    raw: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
    first: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "new" / "out"
    if not first:
        run("--raw", raw, "--out", out)
    before = content(tmp_path)
    real, calls = writing.write_shard, []

    def failing(*args: object) -> None:
        calls.append(args)
        if len(calls) == 5:
            raise error
        real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(writing, "write_shard", failing)
    words = ("--raw", raw, "--out", out, "--seed", 1, "--overwrite")
    if error is KeyboardInterrupt:
        status, _, lines = run(*words)
        assert status == 130
        assert lines.splitlines()[-1].startswith("data_prep: interrupted")
        assert "Traceback" not in lines
    else:
        with pytest.raises(error):  # a fault of the program keeps its traceback
            run(*words)
    assert len(calls) == 5
    assert content(tmp_path) == before
    assert (tmp_path / "new").exists() is not first


def test_what_killed_runs_have_left_is_removed(run: Run, raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    host = socket.gethostname()
    stale = out / f".partial-{host}-{gone.pid}"
    living = out / f".partial-{host}-{os.getppid()}"
    elsewhere = out / f".partial-other{host}-{gone.pid}"
    for folder in (stale, living, elsewhere):
        folder.mkdir(parents=True)
        (folder / "train-00000-of-00008.h5").write_text("half")
    assert run("--raw", raw, "--out", out)[0] == 0
    assert sorted(out.glob(".partial*")) == sorted([living, elsewhere])


def test_ctrl_c_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    out = tmp_path / "out"

    # Large images: there is time to interrupt.
    process = start("--source", "digits", "--out", out, "--size", 512)
    while not out.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert error.splitlines()[-1].startswith("data_prep: interrupted")
    assert "Traceback" not in error
    assert not out.exists()


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    limit = (100_000, 100_000)  # bytes in a file: fails like a full disk, in the middle of writing
    process = start(
        *("--source", "digits", "--out", tmp_path / "out"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2, error
    assert error.splitlines()[-1].startswith("data_prep: error: can't write pixels to ")
    assert "free space or choose another folder" in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()
