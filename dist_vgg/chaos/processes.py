"""The processes of a trial: run them to their end, find those that are left, and kill them."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from dist_vgg.chaos.injector import FAULT

GRACE = 10.0  # seconds that all processes have to end, once the supervisor has ended
PACKAGE = Path(__file__).parents[1]


def run_to_end(
    command: Sequence[str], environment: Mapping[str, str], output: Path, limit: float
) -> int | None:
    """Run a command for at most so many seconds; its exit status, or None where it never ended."""
    with output.open("ab") as file:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that Ctrl-C reaches us only
        )
        try:
            return process.wait(max(0.0, limit))
        except subprocess.TimeoutExpired:
            return None
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()


def environment() -> dict[str, str]:
    """Our environment, in which Python finds this very package and ranks may outnumber cores."""
    path = [str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")]
    return {
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
    }


def processes(folder: Path) -> dict[int, str]:
    """The living processes of a trial by their ids; all have its folder in their environment."""
    mark = f"{FAULT}={json.dumps(dict(folder=str(folder)))[:-1]},".encode()
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (place / "environ").read_bytes():
                words = (place / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(place.name)] = words.decode(errors="replace")[:200]
    return found


def leftovers(folder: Path, grace: float) -> list[str]:
    """The processes that still live after so many seconds."""
    end = time.monotonic() + grace
    while (found := processes(folder)) and time.monotonic() < end:
        time.sleep(0.05)
    return [f"{pid} {words}" for pid, words in found.items()]


def kill_all(folder: Path) -> None:
    """Kill all processes of a trial, those that are stopped included."""
    end = time.monotonic() + GRACE
    while (found := processes(folder)) and time.monotonic() < end:
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
