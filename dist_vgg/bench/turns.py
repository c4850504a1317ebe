"""What is compared runs in fresh processes that take turns, and none of them is left behind.

A machine's speed drifts and others use it too. So nothing is measured in one go: each round
starts each contender once, and the next round begins with another one.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from dist_vgg.base.errors import UserError

GRACE = 3.0  # seconds that a command has to end its own children
ENDING = (signal.SIGTERM, signal.SIGHUP)  # what ends us from outside, besides Ctrl-C
TAIL = 15  # lines of what a failed command said
PACKAGE = Path(__file__).parent
NO_MPI = "pip install 'dist_vgg[mpich]', or load your cluster's MPI module"


class Failed(Exception):
    """A command that was to be measured has failed; says which, how, and its last words."""


def worker(ranks: int, work: str, **options: Any) -> list[str]:
    """The command for a kind of work in `workers`, under mpirun for several ranks."""
    python = [sys.executable, "-m", "dist_vgg.bench.workers", work, json.dumps(options)]
    if ranks == 1:
        return python
    scripts = sysconfig.get_path("scripts")
    mpirun = shutil.which("mpirun", path=f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}")
    if mpirun is None:
        raise UserError(f"no mpirun to start ranks with: {NO_MPI}")
    return [mpirun, "-n", str(ranks), *python]


def in_turns(
    contenders: Mapping[str, Sequence[str]],
    rounds: int,
    say: Callable[[str, dict[str, Any]], object],
) -> dict[str, list[dict[str, Any]]]:
    """Measure each command once a round; their results by name. `say` hears of each."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            result = measure(name, contenders[name])
            results[name].append(result)
            say(name, result)
    return results


def measure(name: str, command: Sequence[str]) -> dict[str, Any]:
    """Run a command to its end, and read the JSON of its last line.

    A result with `first_step`, the time of day, also gets `seconds_to_first_step`. Raises
    UserError with the command's own words for a mistake, and Failed for anything else.
    """
    started = time.time()
    process = subprocess.Popen(
        command,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # so that it can be ended with all that it started
    )
    with _ended(process):
        output, errors = process.communicate()
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if process.returncode or not lines:
        if "no MPI library found" in errors:
            raise UserError(f"no MPI library found: {NO_MPI}")
        mistake = re.search(r"^dist_vgg\.bench\.workers: error: (.*)", errors, re.MULTILINE)
        if mistake:
            raise UserError(mistake[1])
        said = "\n".join((errors.strip() or output.strip()).splitlines()[-TAIL:])
        raise Failed(f"{name} failed with status {process.returncode}; its last words:\n{said}")
    result: dict[str, Any] = json.loads(lines[-1])
    if "first_step" in result:
        result["seconds_to_first_step"] = result.pop("first_step") - started
    return result


def _environment() -> dict[str, str]:
    """Our environment, in which this very package is found, and ranks may outnumber cores."""
    path = [str(PACKAGE.parents[1]), os.environ.get("PYTHONPATH", "")]
    return {
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",  # Open MPI wants to be told
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
    }


@contextmanager
def _ended(process: "subprocess.Popen[str]") -> Iterator[None]:
    """End a command and all that it started, however we leave."""
    try:
        yield
    finally:
        # A second Ctrl-C or SIGTERM must not keep us from it.
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
    """Let what ends this process from outside end it as Ctrl-C does, with its children."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    # What is ignored stays so, as under nohup.
    numbers = [n for n in ENDING if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
