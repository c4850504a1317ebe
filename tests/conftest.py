"""What several test files share."""

import inspect
import os
import signal
import uuid
from collections.abc import Callable, Generator, Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import shared_memory
from hypothesis import settings
from idx import ArrayDict, tiny_arrays
from launcher import field, train
from threadpoolctl import threadpool_limits
from training import EPOCHS, SMALL

from data_prep import mnist
from data_prep.idx import idx_sha256
from dist_vgg.base import files
from dist_vgg.data.samples import Samples, pixel_statistics, set_digest
from dist_vgg.data.set_info import SetInfo
from dist_vgg.data.shards import write_shard
from dist_vgg.kernels import sets
from dist_vgg.state import shm
from dist_vgg.state.weights import load_weights

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# A shell has the jobs that it starts in the background ignore Ctrl-C, and what they start
# inherits that. The commands under test are to be interrupted all the same.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# As ranks have it. With more, the threads of tests side by side would wait for each other.
threadpool_limits(1, user_api="blas")
# What tests start inherits these. Most processes are short: to start OpenBLAS's threads and to
# compile the package anew would be half of their work.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


# How long an example takes says more of the machine than of the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_collection_finish() -> None:
    """Have all kernels compiled before the first test: whoever compiles says so on stderr."""
    for name in (sets.COMPILED, sets.BFLOAT16):
        if not sets.why_missing(name):
            sets.load(name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, Any]:
    return failed_if_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, Any]:
    return failed_if_skipped((yield))


def failed_if_skipped(report: Any) -> Any:
    """Where ALLOWED_SKIPS names a file, make a failure of a skip that it has no reason for."""
    path = os.environ.get("ALLOWED_SKIPS")
    if path and report.skipped and isinstance(report.longrepr, tuple):  # no expected failure
        *_, reason = report.longrepr
        lines = Path(path).read_text().splitlines()
        allowed = [line.partition(": ")[0] for line in lines if not line.startswith("#")]
        if not any(words in reason for words in allowed):
            report.outcome = "failed"
            report.longrepr = f"{reason}\nA skip is a failure here: {path} doesn't allow this one."
    return report


# Modules whose users start processes.
STARTERS = ("subprocess", "dist_vgg.bench.__main__", "dist_vgg.bench.processes")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start processes, by themselves or with a fixture."""
    for item in items:
        if isinstance(item, pytest.Function):
            fixtures = item._fixtureinfo.name2fixturedefs.values()
            used = [item.function, *(found[-1].func for found in fixtures)]
            if any(starts_processes(inspect.unwrap(function)) for function in used):
                item.add_marker("processes")


@cache
def starts_processes(function: Callable[..., Any]) -> bool:
    """Whether a function of the tests, or one that it calls, uses what starts processes."""
    code = getattr(function, "__code__", None)
    if code is None or not in_tests(code.co_filename):
        return False
    names = names_in(code)
    found = [function.__globals__[name] for name in names if name in function.__globals__]
    for module in [thing for thing in found if isinstance(thing, ModuleType)]:
        if module.__name__ in STARTERS:
            return True
        if in_tests(getattr(module, "__file__", None) or ""):
            found += [vars(module)[name] for name in names if name in vars(module)]
    called = (thing for thing in found if isinstance(thing, FunctionType) and thing != function)
    return any(map(starts_processes, called))


def in_tests(path: str) -> bool:
    return Path(path).is_relative_to(Path(__file__).parent)


def names_in(code: CodeType) -> set[str]:
    """The names of globals and attributes in a function, and in those inside it."""
    inner = (thing for thing in code.co_consts if isinstance(thing, CodeType))
    return set(code.co_names).union(*map(names_in, inner))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> ArrayDict:
    """60 + 20 random images that count as the genuine MNIST during the test."""
    arrays = tiny_arrays()
    for name, array in arrays.items():
        monkeypatch.setitem(mnist.SHA256, name, idx_sha256(array))
    return arrays


@pytest.fixture
def real_mnist() -> Path:
    """The folder with the real MNIST, where this checkout has one beside it."""
    folder = Path(__file__).parents[2] / "shared" / "mnist"
    if not folder.is_dir():
        pytest.skip(f"the real MNIST is not in {folder}")
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """Chromium; one for all tests of a process, since Playwright keeps a loop in its thread."""
    from browser import chromium

    with chromium() as browser:
        yield browser


@pytest.fixture
def shm_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for /dev/shm during the test."""
    monkeypatch.setattr(shm, "SHM", tmp_path)
    return tmp_path


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Don't wait for the disk: many small shards would take seconds."""
    monkeypatch.setattr(files, "fsync", lambda path: None)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[Path]]:
    """The files in /dev/shm that the processes of this test have used so far."""
    if not shared_memory.SHM.is_dir():
        pytest.skip("needs Linux's /dev/shm")
    mark = uuid.uuid4().hex
    monkeypatch.setenv("TEST_MEMORY", mark)
    with shared_memory.watched(mark) as found:
        yield found


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight shards of 61 + 20 learnable images of 32x32; 61 divides into no number of shards."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    splits = {}
    for split, count in (("train", 61), ("test", 20)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        pixels = rng.integers(0, 60, (count, 32, 32, 1), np.uint8)
        for image, label in zip(pixels, labels, strict=True):
            image[3 * label : 3 * label + 4] += 150
        splits[split] = Samples(pixels, labels, np.arange(count))
    mean, std = pixel_statistics(splits["train"].pixels)
    info = SetInfo(
        source="mnist",
        request="{}",
        shards=8,
        size=32,
        channels=1,
        classes=10,
        mean=mean,
        std=std,
        zoom="none",
        seed=0,
        train_count=61,
        test_count=20,
        digest=set_digest(splits),
    )
    for split, samples in splits.items():
        for index in range(8):
            write_shard(folder, split, index, samples[np.arange(index, len(samples), 8)], info)
    return folder


@pytest.fixture(scope="session")
def kernels(request: pytest.FixtureRequest) -> str:
    """The name of the kernels to train with: those of "auto", or see `sets.each_set`."""
    return str(getattr(request, "param", sets.resolve("auto")))


@pytest.fixture(scope="session")
def small(kernels: str) -> tuple[object, ...]:
    """SMALL, with the kernels to train with."""
    return (*SMALL, "--kernels", kernels)


@pytest.fixture(scope="session")
def reference(
    data: Path, small: tuple[object, ...], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run of one process that nothing happened to."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    status, output, errors = train(1, "--data", data, "--out", folder, *small, *EPOCHS)
    assert status == 0, errors
    assert field(output, "parameters") == load_weights(folder).sha256
    return folder
