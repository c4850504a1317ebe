"""The supervisor of a fake training, and what such a training leaves."""

import json
import os
import signal
import stat
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import launcher

from dist_vgg.recovery.ending import last_step

FAKE = """
import sys
from dist_vgg.elastic import main
sys.exit(main(sys.argv[1:], module="tests.inside_ranks.fake_train", patience=3))
"""


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


def wait_for_last_step(folder: Path, step: int) -> None:
    end = time.monotonic() + 20
    while last_step(folder) < step:
        assert time.monotonic() < end, f"no step {step}"
        time.sleep(0.02)


def fake_mpirun(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path
