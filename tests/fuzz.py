"""Give the readers of files damaged and lying files, and see that each ends in one line.

    python tests/fuzz.py --reader shard --trials 10000 --seed 1

A trial is a valid file with changes drawn from seed and trial alone. HDF5 files get the digest
that the changed file should have, most of the time, so that libhdf5 has to read them. A trial
fails where it ends in anything but success or a UserError within 10 s and 1 GiB: a traceback, a
signal, no end. Each failure is printed with the command that repeats it.
"""

import argparse
import mmap
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any
from unittest import mock

from fuzz_formats import (
    idx_seeds,
    image_seeds,
    read_idx,
    read_options,
    toml_seeds,
    write_idx,
    write_image,
    write_toml,
)
from fuzz_hdf5 import CHECKPOINT, INFO, SAMPLES, WEIGHTS, hdf5_seeds, write_hdf5
from fuzz_sets import IMAGES, cifar_seeds, npz_seeds, write_cifar, write_npz
from fuzz_trained import INT8, safetensors_seeds, write_safetensors

from data_prep import cifar10, idx, npz
from data_prep.folder import FilePictures
from dist_vgg.base import bounds, files
from dist_vgg.base.errors import UserError
from dist_vgg.data import digit, pictures, shards
from dist_vgg.data.dataset import load_shard
from dist_vgg.data.digit import like_mnist
from dist_vgg.data.pictures import light_on_dark, read_picture, silent
from dist_vgg.formats import metadata, safetensors
from dist_vgg.formats.trained import read_trained
from dist_vgg.runs import recipes
from dist_vgg.state import checkpoint
from dist_vgg.state.checkpoint import load_newest, save_checkpoint
from dist_vgg.state.weights import load_weights, save_weights

SECONDS = 10  # for one trial
MEMORY = 1 << 30  # bytes above what the process had at its start


@dataclass(frozen=True)
class Reader:
    """What is fuzzed: files to start from, how they are changed, and the function that reads."""

    name: str  # of the file
    seeds: Callable[[Path], list[bytes]]
    write: Callable[[Path, list[bytes], random.Random], None]
    read: Callable[[Path], object]


def read_digit(path: Path) -> None:
    """As predict reads a picture."""
    with silent():
        like_mnist(light_on_dark(read_picture(path)))


def read_small(path: Path) -> None:
    """As data_prep reads the pictures of a folder."""
    with silent():
        FilePictures(path.parent, (path.name,)).pixels(0, 32, 3, "pad")


READERS = {
    "idx": Reader("images", idx_seeds, write_idx, read_idx),
    "shard": Reader(
        "train-00000-of-00001.h5",
        hdf5_seeds(
            lambda folder: shards.write_shard(folder, "train", 0, SAMPLES, INFO),
            "train-00000-of-00001.h5",
        ),
        write_hdf5,
        lambda path: load_shard(path.parent, "train", 0, INFO),
    ),
    "checkpoint": Reader(
        "step-00000007.h5",
        hdf5_seeds(lambda folder: save_checkpoint(folder, CHECKPOINT, 1), "step-00000007.h5"),
        write_hdf5,
        lambda path: load_newest(path.parent, lambda words: None),
    ),
    "weights": Reader(
        "weights.h5",
        hdf5_seeds(lambda folder: save_weights(folder / "weights.h5", WEIGHTS), "weights.h5"),
        write_hdf5,
        load_weights,
    ),
    "int8": Reader(
        "weights.h5",
        hdf5_seeds(lambda folder: save_weights(folder / "weights.h5", INT8), "weights.h5"),
        write_hdf5,
        load_weights,
    ),
    "safetensors": Reader("model.safetensors", safetensors_seeds, write_safetensors, read_trained),
    "toml": Reader("options.toml", toml_seeds, write_toml, read_options),
    "image": Reader(
        "image",
        image_seeds,
        write_image,
        read_digit,
    ),
    "picture": Reader(
        "image",
        image_seeds,
        write_image,
        read_small,
    ),
    "npz": Reader("arrays.npz", npz_seeds, write_npz, npz.load),
    "cifar10": Reader(
        cifar10.NAME,
        cifar_seeds,
        write_cifar,
        lambda path: cifar10.read_archive(path, str(path), IMAGES),
    ),
}
TRIAL, ACCEPTED, REFUSED, FAILED = range(4)  # what worker and parent share


def attempt(reader: Reader, path: Path) -> tuple[int, str]:
    """Read one file: how it ended, and what was wrong about that."""
    try:
        reader.read(path)
        return ACCEPTED, ""
    except UserError as error:
        cause: BaseException | None = error
        while cause:
            if isinstance(cause, MemoryError):
                return FAILED, "out of memory: " + "".join(traceback.format_exception(cause))
            cause = cause.__cause__ or cause.__context__
        if "\n" in str(error) or not str(error).isprintable() or len(str(error)) > 5000:
            return FAILED, f"not one line: {str(error)[:2000]!r}"
        return REFUSED, ""
    except BaseException:
        return FAILED, traceback.format_exc()


def work(name: str, seed: int, last: int, folder: Path, seeds: list[bytes], state: Any) -> None:
    """Do trials one after another, in a process that may die of them."""
    reader = READERS[name]
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 2 * MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while state[TRIAL] < last:
        rng = random.Random(f"{name} {seed} {state[TRIAL]}")
        path = folder / reader.name
        reader.write(path, seeds, rng)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        end, fault = attempt(reader, path)
        signal.setitimer(signal.ITIMER_REAL, 0)
        used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) << 10
        if end != FAILED and used > MEMORY:
            end, fault = FAILED, f"{used >> 20} MiB of memory"
        if end == FAILED:
            failed(name, seed, state[TRIAL], fault)
        state[end] += 1
        state[TRIAL] += 1
        if end == FAILED:  # the parent may keep the file; and a peak of memory would stay
            return


def failed(name: str, seed: int, trial: int, fault: str) -> None:
    print(f"FAILED {fault}\n    python tests/fuzz.py --reader {name} --seed {seed} "
          f"--first {trial} --trials 1", flush=True)  # fmt: skip


def fuzz(name: str, trials: int, seed: int, first: int = 0, keep: Path | None = None) -> int:
    """Do so many trials of one reader, print how they ended; the number of failures."""
    state = memoryview(mmap.mmap(-1, 32)).cast("q")
    state[TRIAL] = first
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as it:
        folder = Path(it)
        with mock.patch.object(files, "fsync"):
            seeds = READERS[name].seeds(folder)
        while state[TRIAL] < first + trials:
            before = state[FAILED]
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    work(name, seed, first + trials, folder, seeds, state)
                    status = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    sys.stdout.flush()
                    os._exit(status)
            _, ended = os.waitpid(child, 0)
            if ended:
                number = os.WTERMSIG(ended) if os.WIFSIGNALED(ended) else 0
                fault = signal.Signals(number).name if number else "the fuzzer itself failed"
                failed(name, seed, state[TRIAL], f"ended by {fault}")
                state[FAILED] += 1
            if keep and state[FAILED] > before:
                keep.mkdir(parents=True, exist_ok=True)
                trial = state[TRIAL] - (not ended)
                path = folder / READERS[name].name
                (keep / f"{name}-{seed}-{trial}").write_bytes(path.read_bytes())
            if ended:
                state[TRIAL] += 1
    print(
        f"{name}: {trials:,} trials, {state[ACCEPTED]:,} accepted, {state[REFUSED]:,} refused, "
        f"{state[FAILED]:,} failed; seed {seed}, {time.monotonic() - begun:.0f} s",
        flush=True,
    )
    return int(state[FAILED])


def cover(name: str, trials: int, seed: int) -> None:
    """Have Atheris choose the changes, by what they reach in this project's Python; no return.

    The first fault ends it; libFuzzer then says which file repeats it.
    """
    import atheris

    reader = READERS[name]
    with tempfile.TemporaryDirectory() as it:
        folder, corpus = Path(it, "file"), Path(it, "corpus")
        folder.mkdir()
        corpus.mkdir()
        sealed = reader.write is write_hdf5
        with mock.patch.object(files, "fsync"):
            for i, content in enumerate(reader.seeds(folder)):
                (corpus / str(i)).write_bytes(content[files.USER_BLOCK if sealed else 0 :])

        def one(data: bytes) -> None:
            path = folder / reader.name
            path.write_bytes(bytes(files.USER_BLOCK) * sealed + data)
            if sealed:
                files.seal(path)
            end, fault = attempt(reader, path)
            if end == FAILED:
                raise RuntimeError(fault)

        for module in (
            bounds,
            checkpoint,
            cifar10,
            npz,
            recipes,
            digit,
            files,
            idx,
            metadata,
            pictures,
            safetensors,
            shards,
            recipes.tomllib,
        ):
            for value in list(vars(module).values()):
                if isinstance(value, FunctionType) and value.__module__.startswith(module.__name__):
                    atheris.instrument_func(value)
        limits = [f"-runs={trials}", f"-seed={seed + 1}", f"-timeout={SECONDS}", "-max_len=20000"]
        atheris.Setup([sys.argv[0], *limits, f"-rss_limit_mb={2 * MEMORY >> 20}", str(corpus)], one)
        atheris.Fuzz()


def main() -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--reader", choices=(*READERS, "all"), default="all")
    parser.add_argument("--trials", type=int, default=1000, metavar="N", help="of each reader")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the first trial")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the files that failed")
    parser.add_argument(
        "--coverage", action="store_true", help="one reader, guided by Atheris (pip install it)"
    )
    given = parser.parse_args()
    if given.coverage:
        if given.reader == "all":
            parser.error("--coverage takes one reader: name it with --reader")
        cover(given.reader, given.trials, given.seed)
    names = READERS if given.reader == "all" else [given.reader]
    total = sum(fuzz(name, given.trials, given.seed, given.first, given.keep) for name in names)
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
