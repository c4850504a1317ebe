"""What one process has compiled all others load, and whatever goes wrong, kernels are there."""

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dist_vgg.base.cache import SHM

pytest.importorskip("numba")

from dist_vgg.kernels import compiled, jit, machine_code

ROOT = Path(__file__).parents[2]
COMPILING = "compiling kernels for this processor, once (about 30 s)\n"

KERNELS = """
import numba
from constants import OFFSET
from dist_vgg.kernels.jit import OPTIONS, jit
from numba.types import float32, int64

@numba.njit(**OPTIONS)
def shifted(x):
    return x + OFFSET

def scaled(factor):
    @jit(float32[::1], int64)
    def scale(x, n):
        for i in range(n):
            x[i] = shifted(factor * x[i])
    return scale

double, triple = scaled(2), scaled(3)

@jit(float32[::1])
def printing(x):
    print(x[0])
"""

START = """
import json, sys, time
import numpy as np
from dist_vgg.base.command_line import guarded
from dist_vgg.kernels import machine_code
from dist_vgg.kernels.machine_code import Function

def hang(line):
    print(line, flush=True)
    time.sleep(60)

compiled, compile_one = [], Function.compile

def compile_and_count(function, *dtype):
    compiled.append(function)
    return compile_one(function, *dtype)

def main():
    Function.compile = compile_and_count
    scales = [Function("kernels.double"), Function("kernels.triple")]
    machine_code.prepare(**({"say": hang} if "hang" in sys.argv else {}))
    results = []
    for scale in scales:
        x = np.ones(3, "f8" if "f8" in sys.argv else "f4")
        scale(x, 2)
        results.append(x.tolist())
    imported = "numba" in sys.modules
    print(json.dumps({"results": results, "compiled": len(compiled), "imported": imported}))
    return 0

sys.exit(guarded("start", main))
"""


class Starts:
    """Starts of a program that has two kernels, which machine code is kept in `cache`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache, self.temporary = folder / "cache", folder / "temporary"
        self.temporary.mkdir()
        self.sources = folder / "sources"
        self.sources.mkdir()
        (self.sources / "kernels.py").write_text(KERNELS)
        self.write_constants(1)

    def write_constants(self, offset: int) -> None:
        (self.sources / "constants.py").write_text(f"OFFSET = {offset}\n")

    def start(
        self, *words: str, before: Callable[[], object] | None = None, **variables: str
    ) -> "subprocess.Popen[str]":
        """Start it with some words; `before` is called in the new process."""
        environment = {
            **os.environ,
            "DIST_VGG_CACHE": str(self.cache),
            "TMPDIR": str(self.temporary),
            "PYTHONPATH": f"{ROOT}:{self.sources}",
            "PYTHONDONTWRITEBYTECODE": "1",  # sources change within the second
            **variables,
        }
        command = [sys.executable, "-c", START, *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, env=environment, text=True, stdout=pipe, stderr=pipe, preexec_fn=before
        )

    def run(self, *words: str, **options: Any) -> tuple[dict[str, Any], str]:
        return finish(self.start(*words, **options))

    def kept(self) -> list[Path]:
        """The files with machine code in the cache."""
        return sorted(path for path in self.cache.glob("kernels/*/*") if path.name != "lock")


def finish(process: "subprocess.Popen[str]") -> tuple[dict[str, Any], str]:
    """What a start has found, and what it has told."""
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return json.loads(output), errors


@pytest.fixture
def starts(tmp_path: Path) -> Starts:
    return Starts(tmp_path)


def results(offset: int = 1, length: int = 2) -> list[list[float]]:
    return [[factor + offset] * length + [1] * (3 - length) for factor in (2, 3)]


def test_compiled_once_and_loaded_ever_after(starts: Starts) -> None:
    found, told = starts.run()
    assert found["results"] == results()
    assert (found["compiled"], told) == (2, COMPILING)
    kept = starts.kept()
    assert [path.name for path in kept] == ["kernels.double-float32", "kernels.triple-float32"]
    assert starts.run() == ({"results": results(), "compiled": 0, "imported": False}, "")
    assert starts.kept() == kept


def test_eight_at_once_compile_once(starts: Starts) -> None:
    found = [finish(process) for process in [starts.start() for _ in range(8)]]
    assert [answer["results"] for answer, _ in found] == [results()] * 8
    assert sorted(answer["compiled"] for answer, _ in found) == [0] * 7 + [2]
    assert sorted(told for _, told in found) == [""] * 7 + [COMPILING]


def test_other_types_compile_as_they_come_and_are_kept(starts: Starts) -> None:
    assert starts.run("f8")[0]["compiled"] == 4
    assert starts.run("f8")[0] == {"results": results(), "compiled": 0, "imported": False}


@pytest.mark.parametrize("what", ["a source beside", "the processor", "a setting"])
def test_versions_lie_side_by_side(starts: Starts, what: str) -> None:
    starts.run()
    variables, offset = {}, 1
    if what == "a source beside":
        offset = 2
        starts.write_constants(offset)
    elif what == "the processor":
        variables = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    else:
        variables = {"NUMBA_OPT": "1"}
    other, _ = starts.run(**variables)
    assert (other["results"], other["compiled"]) == (results(offset), 2)
    starts.write_constants(1)
    first, _ = starts.run()
    assert (first["results"], first["compiled"]) == (results(), 0)
    assert len({path.parent for path in starts.kept()}) == 2


@pytest.mark.parametrize(("damage", "index"), [("changed", 0), ("empty", 1), ("missing", 1)])
def test_a_damaged_file_is_compiled_again(starts: Starts, damage: str, index: int) -> None:
    starts.run()
    path = starts.kept()[index]
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(
            b"" if damage == "empty" else whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]
        )
    # What this process compiles now it must not take for what the first one has.
    found, told = starts.run()
    assert (found["results"], found["compiled"], told) == (results(), 1, COMPILING)
    assert starts.run()[0]["compiled"] == 0


def bound_by_modes() -> None:
    """Have root heed the modes of files, as others must: drop CAP_DAC_OVERRIDE by prctl."""
    ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)


@pytest.mark.parametrize("what", ["can't be made", "is open to others", "is read-only"])
def test_a_temporary_folder_serves_instead(starts: Starts, what: str) -> None:
    folder = starts.cache / "kernels"
    if what == "can't be made":
        starts.cache.write_text("")  # root may write to any folder, but not to one below a file
        why = "Not a directory"
    else:
        folder.mkdir(parents=True)
        modes = {"is open to others": 0o777, "is read-only": 0o500}
        folder.chmod(modes[what])
        why = "others may write to it" if what == "is open to others" else "Permission denied"
    temporary = starts.temporary / f"dist_vgg-kernels-{os.geteuid()}"
    found, told = starts.run(before=bound_by_modes)
    assert (found["results"], found["compiled"]) == (results(), 2)
    assert told == (
        f"{COMPILING}can't use the cache {folder}: {why}; compiled kernels are kept in "
        f"{temporary}; DIST_VGG_CACHE can name another folder\n"
    )
    assert temporary.stat().st_mode & 0o777 == 0o700
    found, told = starts.run(before=bound_by_modes)
    assert (found["compiled"], told) == (0, "")


def test_a_cache_that_can_only_be_read_serves(starts: Starts) -> None:
    starts.run()
    (key,) = starts.cache.glob("kernels/*")
    for folder in (key, key.parent):
        folder.chmod(0o500)
    whole = {"results": results(), "compiled": 0, "imported": False}
    assert starts.run(before=bound_by_modes) == (whole, "")
    # One file is missing: that one alone lies elsewhere.
    key.chmod(0o700)
    starts.kept()[0].unlink()
    key.chmod(0o500)
    assert starts.run(before=bound_by_modes)[0]["compiled"] == 1
    assert starts.run(before=bound_by_modes) == (whole, "")


def test_where_nothing_can_be_kept_kernels_are_in_memory(starts: Starts) -> None:
    def fill() -> None:  # a limit for the size of files, in place of a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    found, told = starts.run(before=fill)
    assert found["results"] == results()
    assert told == (
        f"{COMPILING}can't use the cache {starts.cache / 'kernels'}: File too large; compiled "
        "kernels are not kept, nor shared with other ranks; "
        "DIST_VGG_CACHE can name another folder\n"
    )
    assert not starts.kept()
    (key,) = starts.cache.glob("kernels/*")
    tried = SHM / f"dist_vgg-kernels-{os.geteuid()}" / key.name
    tried.rmdir()
    with suppress(OSError):  # it has this user's real kernels
        tried.parent.rmdir()


def test_who_waits_for_a_killed_process_compiles(starts: Starts) -> None:
    first = starts.start("hang")
    assert first.stdout
    assert first.stdout.readline() == COMPILING
    (key,) = starts.cache.glob("kernels/*")
    (key / ".kernels.double-float32.123.partial").write_text("half of it")
    second = starts.start()
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(3)
    first.kill()
    first.communicate()
    found, told = finish(second)
    assert (found["results"], found["compiled"], told) == (results(), 2, COMPILING)
    assert not list(key.glob(".*"))


def test_ctrl_c_is_one_line(starts: Starts) -> None:
    process = starts.start("hang")
    assert process.stdout
    assert process.stdout.readline() == COMPILING
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[1] == "start: interrupted\n"
    assert process.returncode == 130
    assert not starts.kept()


def test_unused_keys_are_removed(starts: Starts) -> None:
    for key, days in (("old", 91), ("used", 89)):
        lock = starts.cache / "kernels" / key / "lock"
        lock.parent.mkdir(parents=True)
        lock.touch()
        os.utime(lock, (time.time() - days * 86400,) * 2)
    (starts.cache / "kernels").chmod(0o700)
    starts.run()
    (key,) = {path.parent for path in starts.kept()}
    assert set((starts.cache / "kernels").iterdir()) == {key, starts.cache / "kernels" / "used"}
    os.utime(key / "lock", (0, 0))
    starts.run()
    assert time.time() - (key / "lock").stat().st_mtime < 60


def test_other_arguments_are_refused() -> None:
    backward = compiled.pool_backward
    dy, choice, dx = (
        np.ones((1, 2, 2, 3), "f4"),
        np.zeros((1, 2, 2, 3), "u1"),
        np.empty((1, 4, 4, 3)),
    )
    for wrong in (dx, np.empty((4, 4, 3), "f4"), np.empty((1, 4, 3, 4), "f4").swapaxes(2, 3)):
        with pytest.raises(TypeError, match=r"pool\.backward takes contiguous float32 in 4 dim"):
            backward(dy, choice, wrong)
    with pytest.raises(ValueError, match="shorter"):
        backward(dy, choice)


def test_code_that_calls_others_is_not_kept(
    starts: Starts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(starts.sources)
    with pytest.raises(TypeError, match=r"kernels\.printing can't be kept: it calls .*numba_gil"):
        jit.compiled("kernels.printing", np.dtype("f4"))


def test_disabled_compiling_is_one_line(starts: Starts) -> None:
    process = starts.start(NUMBA_DISABLE_JIT="1")
    errors = process.communicate()[1]
    assert errors.endswith("start: error: NUMBA_DISABLE_JIT forbids to compile kernels: unset it\n")


def test_the_key_knows_all_files_of_the_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = tmp_path / "kernels"
    (room / "passes").mkdir(parents=True)
    monkeypatch.setattr(machine_code, "__file__", str(room / "machine_code.py"))
    keys = set()
    for path in (room / "constants.py", room / "passes" / "loops.py"):
        for content in ("p = 1\n", "p = 2\n"):
            path.write_text(content)
            keys.add(machine_code._key.__wrapped__(room / "passes"))
    assert len(keys) == 4
