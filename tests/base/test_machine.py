"""What a rank asks of its machine."""

import ctypes
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest

from dist_vgg.base import machine

ASK = """
import os
from dist_vgg.base import machine
before = os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)
machine.settle(1)
assert (os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)) == before, before
print(before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux's scheduler")
@pytest.mark.parametrize("policy", ["SCHED_OTHER", "SCHED_BATCH"])
def test_settling_keeps_what_the_process_was_given(policy: str) -> None:
    number = getattr(os, policy)

    def be_nice() -> None:
        os.sched_setscheduler(0, number, os.sched_param(0))
        os.nice(3)

    done = subprocess.run(
        [sys.executable, "-c", ASK], preexec_fn=be_nice, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    nice, found = map(int, done.stdout.strip("()\n").split(","))
    assert found == number and nice >= 3


def test_settling_is_harmless_where_nothing_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "threadpool_limits", lambda *_, **__: None)  # has libraries too
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    monkeypatch.setattr(machine.platform, "machine", lambda: "riscv64")
    machine.settle(1)


def test_memory_is_what_this_process_holds() -> None:
    peak, shared = machine.memory()
    assert 1 << 20 < peak < 1 << 40
    assert 0 <= shared < peak


@pytest.mark.parametrize("found", [True, False])  # the folder that usually has the version
def test_the_version_of_numba(found: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        expected = version("numba")
    except PackageNotFoundError:
        pytest.skip("Numba is not installed")
    if not found:
        monkeypatch.setattr(machine, "find_spec", lambda name: None)
    assert machine.numba_version() == expected
