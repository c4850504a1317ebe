"""The fuzz command: that it finds what is wrong, and that a few hundred trials find nothing."""

import functools
import mmap
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import fuzz
import fuzz_hdf5
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist_vgg.base.errors import UserError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")


@pytest.mark.parametrize("name", fuzz.READERS)
def test_a_few_hundred_trials(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    # In processes of their own, so that a crash is a failure and not the end of all tests.
    assert fuzz.fuzz(name, 300, seed=0) == 0
    output, errors = capfd.readouterr()
    assert output.startswith(f"{name}: 300 trials, ")
    assert errors == ""


def crash(path: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang(path: Path) -> None:
    while True:
        time.sleep(1)


def swell(path: Path) -> None:
    # Not by malloc, which may give back what another test of this process has freed.
    with mmap.mmap(-1, 30_000_000) as memory:
        memory[::4096] = bytes(len(range(0, len(memory), 4096)))


def swallowed(path: Path) -> None:
    try:
        np.empty(1 << 60, np.uint8)
    except MemoryError as error:
        raise UserError("damaged") from error


def stumble(path: Path) -> None:
    raise KeyError("x")


def two_lines(path: Path) -> None:
    raise UserError("a\nb")


@pytest.mark.parametrize("fault", [crash, hang, swell, swallowed, stumble, two_lines])
def test_a_fault_is_found_and_can_be_repeated(
    fault: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    plain = fuzz.READERS["idx"]

    def read(path: Path) -> None:
        if path.read_bytes() == b"5":
            fault(path)

    def write(path: Path, seeds: list[bytes], rng: random.Random) -> None:
        path.write_bytes(b"%d" % rng.randrange(10))

    monkeypatch.setitem(fuzz.READERS, "idx", replace(plain, read=read, write=write))
    monkeypatch.setattr(fuzz, "SECONDS", 0.3)
    if fault is swell:
        monkeypatch.setattr(fuzz, "MEMORY", 20_000_000)
    count = fuzz.fuzz("idx", 40, seed=0, keep=tmp_path / "kept")
    assert 2 <= count < 8
    lines = capfd.readouterr().out.splitlines()
    assert sum(line.startswith("FAILED") for line in lines) == count
    assert [path.read_bytes() for path in (tmp_path / "kept").iterdir()] == [b"5"] * count
    again = next(line for line in lines if line.startswith("    python tests/fuzz.py")).split()
    first = int(again[again.index("--first") + 1])
    assert fuzz.fuzz("idx", 1, seed=0, first=first) == 1


def test_checksums_are_those_of_hdf5(tmp_path: Path) -> None:
    for name in ("shard", "checkpoint", "weights", "int8"):
        for seed in fuzz.READERS[name].seeds(tmp_path):
            content = seed[512:]
            assert fuzz_hdf5.with_checksums(content) == content
            if content[8] == 2:
                assert fuzz_hdf5.with_checksums(content[:44] + bytes(4) + content[48:]) == content


ANYTHING = ["idx", "toml", "image", "picture", "npz", "cifar10", "safetensors"]


@functools.cache
def seeds(name: str) -> list[bytes]:
    return fuzz.READERS[name].seeds(Path())


@pytest.mark.parametrize("name", ANYTHING)
@given(more=st.binary(max_size=300), which=st.integers(0, 50), place=st.integers(0, 3000))
@settings(max_examples=100)
def test_readers_take_anything(
    name: str, more: bytes, which: int, place: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    reader = fuzz.READERS[name]
    path = tmp_path_factory.getbasetemp() / f"anything{Path(reader.name).suffix}"
    found = seeds(name)
    seed = found[which % len(found)]
    place %= len(seed)
    for content in (more, seed + more, seed[:place] + more + seed[place + len(more) :]):
        path.write_bytes(content)
        end, fault = fuzz.attempt(reader, path)
        assert end != fuzz.FAILED, fault
