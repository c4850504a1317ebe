"""Processes that are measured: each starts fresh, answers in JSON, and leaves nothing running."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from dist_vgg.base.errors import UserError
from dist_vgg.mpi.mpirun import INSTALL, find_mpirun

GRACE = 3.0  # seconds that a command has to end its own children
ENDING = (signal.SIGTERM, signal.SIGHUP)  # besides Ctrl-C, the signals that end us
TAIL = 15  # lines of a failed command's output to show
PACKAGE = Path(__file__).parent


class MeasurementFailed(UserError):
    """A measured command has failed; the message says which one, how, and its last words."""

    status = 1


def worker_command(
    ranks: int, benchmark: str, launcher: Sequence[str] = (), **settings: Any
) -> list[str]:
    """The command that measures a benchmark in `worker`, under mpirun for several ranks.

    A `launcher` of one's own, mpirun with its options, starts a single rank as well.
    """
    python = [sys.executable, "-m", "dist_vgg.bench.worker", benchmark, json.dumps(settings)]
    if ranks == 1 and not launcher:
        return python
    return [*(launcher or find_mpirun(None, INSTALL)), "-n", str(ranks), *python]


def result_of(name: str, command: Sequence[str]) -> dict[str, Any]:
    """Run a command as `output_of` does, and read the JSON of its last line.

    A result with `first_step`, the time of day, also gets `seconds_to_first_step`.
    """
    started = time.time()
    lines = [line for line in output_of(name, command, "{").splitlines() if line.startswith("{")]
    result: dict[str, Any] = json.loads(lines[-1])
    if "first_step" in result:
        result["seconds_to_first_step"] = result.pop("first_step") - started
    return result


def output_of(name: str, command: Sequence[str], expected: str = "") -> str:
    """Run a command to its end; returns what it printed, in which a line begins as `expected`.

    Raises UserError with the command's own words for a mistake, and MeasurementFailed for anything
    else.
    """
    process = subprocess.Popen(
        command,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # so that one signal reaches all that it starts
    )
    with _ended(process):
        output, errors = process.communicate()
    found = not expected or any(line.startswith(expected) for line in output.splitlines())
    if process.returncode or not found:
        if "no MPI library found" in errors:
            raise UserError(f"no MPI library found: {INSTALL}")
        mistake = re.search(r"^dist_vgg\.[\w.]+: error: (.*)", errors, re.MULTILINE)
        if mistake:
            raise UserError(mistake[1])
        said = "\n".join((errors.strip() or output.strip()).splitlines()[-TAIL:])
        raise MeasurementFailed(
            f"{name} failed with status {process.returncode}; its last words:\n{said}"
        )
    return output


def _environment() -> dict[str, str]:
    """Our environment, in which Python finds this very package and ranks may outnumber cores."""
    path = [str(PACKAGE.parents[1]), os.environ.get("PYTHONPATH", "")]
    return {
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",  # for Open MPI
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
    }


@contextmanager
def _ended(process: "subprocess.Popen[str]") -> Iterator[None]:
    """However the block is left, end a command and all that it started."""
    try:
        yield
    finally:
        # A second Ctrl-C or SIGTERM must not interrupt the cleaning up.
        numbers = (signal.SIGINT, *ENDING)
        before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
        if process.poll() is None:
            _signal_all(process, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
        _signal_all(process, signal.SIGKILL)
        process.wait()
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _signal_all(process: "subprocess.Popen[str]", number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


@contextmanager
def interruptible() -> Iterator[None]:
    """During the block, SIGTERM and SIGHUP end this process and its children as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    # A signal that is ignored, as under nohup, stays ignored.
    numbers = [n for n in ENDING if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
