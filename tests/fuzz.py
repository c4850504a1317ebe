"""Give the readers of files damaged and lying files, and see that each ends in one line.

    python tests/fuzz.py --reader shard --trials 10000 --seed 1

A trial is a valid file with changes drawn from seed and trial alone. HDF5 files get the digest
that the changed file should have, most of the time, so that libhdf5 has to read them. A trial
fails where it ends in anything but success or a UserError within 10 s and 1 GiB: a traceback, a
signal, no end. Each failure is printed with the command that repeats it.
"""

import argparse
import contextlib
import copy
import gzip
import io
import json
import mmap
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any
from unittest import mock

import h5py
import lies
import numpy as np
from PIL import Image

from data_prep import idx
from dist_vgg.base import bounds, files
from dist_vgg.base.errors import UserError
from dist_vgg.data import digit, pictures, shards
from dist_vgg.data.dataset import load_shard
from dist_vgg.data.digit import like_mnist
from dist_vgg.data.pictures import light_on_dark, read_picture
from dist_vgg.data.samples import Samples
from dist_vgg.data.set_info import SetInfo
from dist_vgg.runs import recipes
from dist_vgg.runs.config import TrainConfig
from dist_vgg.runs.recipes import read_toml
from dist_vgg.state import checkpoint
from dist_vgg.state.checkpoint import (
    Checkpoint,
    Weights,
    load_newest,
    load_weights,
    save_checkpoint,
    save_weights,
)

SECONDS = 10  # for one trial
MEMORY = 1 << 30  # bytes above what the process had at its start

NUMBERS = [0, 1, 2, 3, 8, 127, 128, 255, 256, 511, 512, 65535, 65536, 2**31 - 1, 2**31]
NUMBERS += [2**32 - 1, 2**32, 2**48, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


def mutate(data: bytes, seeds: list[bytes], rng: random.Random) -> bytes:
    """Change a few bytes, numbers or pieces of a file."""
    it = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6, 12))):
        place = rng.randrange(len(it) + 1)
        end = min(len(it), place + int(rng.expovariate(1 / 12)) + 1)
        what = rng.randrange(10)
        if what <= 1 and it:
            it[place % len(it)] ^= 1 << rng.randrange(8)
        elif what <= 3 and it:
            it[place % len(it)] = rng.choice((0, 1, 2, 127, 128, 255, rng.randrange(256)))
        elif what <= 6:
            value, size = rng.choice([*NUMBERS, len(it), place]), rng.choice((2, 4, 8))
            order = rng.choice(("<", ">"))
            packed = struct.pack(order + "Q", value)
            it[place : place + size] = packed[:size] if order == "<" else packed[-size:]
        elif what == 7:
            del it[place:end]
        elif what == 8:
            other = rng.choice([it, *seeds])
            start = rng.randrange(len(other) + 1)
            it[place:end] = other[start : start + end - place]
        elif rng.randrange(4):
            it[place:place] = it[place:end] * rng.choice((1, 1, 2, 1000))
        else:
            del it[place:]
    return bytes(it)


@dataclass(frozen=True)
class Reader:
    """What is fuzzed: files to start from, how they are changed, and the function that reads."""

    name: str  # of the file
    seeds: Callable[[Path], list[bytes]]
    write: Callable[[Path, list[bytes], random.Random], None]
    read: Callable[[Path], object]


# HDF5

NETWORK = dict(size=32, channels=1, classes=10, width=0.05)
VECTOR = np.arange(40, dtype=np.float32)
SAMPLES = Samples(
    np.arange(3 * 32 * 32, dtype=np.uint8).reshape(3, 32, 32, 1), np.arange(3), np.arange(3)
)
INFO = SetInfo(
    "mnist", "{}", 1, 32, 1, 10, 33.3, 78.5, "bicubic", 0, 3, 3, "ab" * 32
)  # fmt: skip


def hdf5_seeds(write: Callable[[Path], object], name: str) -> Callable[[Path], list[bytes]]:
    """One file as it is written, and the same in HDF5's older and newer structures."""

    def seeds(folder: Path) -> list[bytes]:
        write(folder)
        path = folder / name
        found = [path.read_bytes()]
        for version in ("earliest", "v110", "latest"):
            again = folder / "again.h5"
            options: dict[str, Any] = dict(libver=version, userblock_size=files.USER_BLOCK)
            with h5py.File(path) as old, h5py.File(again, "w", **options) as new:
                new.attrs.create("header", old.attrs["header"])
                for member in old:
                    old.copy(member, new)
            files.seal(again)
            found.append(again.read_bytes())
            again.unlink()
        return found

    return seeds


WEIRD = [None, True, -1, 0, 0.0, 1e308, float("nan"), float("inf"), 2**70, "", "x\n", [], {}, [[]]]
WEIRD += [{"size": 2**40}, {**NETWORK, "width": 1e300}, {**NETWORK, "size": 33}, "a" * 50_000]


def write_hdf5(path: Path, seeds: list[bytes], rng: random.Random) -> None:
    """Change the structure, with checksums that fit or not; or what the file says or holds."""
    data = rng.choice(seeds)
    what = rng.randrange(20)
    if what < 17:
        block, rest = data[: files.USER_BLOCK], data[files.USER_BLOCK :]
        rest = mutate(rest, [seed[files.USER_BLOCK :] for seed in seeds], rng)
        if rng.randrange(3):
            rest = with_checksums(rest)
        path.write_bytes(block + rest)
        if what:  # else with the digest that doesn't fit
            files.seal(path)
        return
    path.write_bytes(data)
    with lies.edited(path) as file:
        if what == 17:
            lie = rng.choice(lies.LIES)
            lie(file, rng.choice([name for name in file if isinstance(file[name], h5py.Dataset)]))
            return
        header = json.loads(file.attrs["header"])
        for _ in range(rng.choice((1, 1, 2, 5))):
            table = rng.choice([it for it in (header, *header.values()) if type(it) is dict])
            name = rng.choice([*table, "more"])
            if rng.randrange(4):
                table[name] = copy.deepcopy(rng.choice(WEIRD))
            else:
                table.pop(name, None)
        text = json.dumps(header)
        if what == 18:
            text = mutate(text.encode(), [], rng).decode("ascii", "replace")
        with contextlib.suppress(OSError, UnicodeEncodeError):  # too long, or no ASCII
            lies.say_text(file, text)


def with_checksums(data: bytes) -> bytes:
    """HDF5's superblock and object headers (of version 2) with checksums that fit."""
    it = bytearray(data)
    if len(it) >= 48 and it[8] in (2, 3):
        it[44:48] = lookup3(it[:44])
    place = it.find(b"OHDR")
    while place >= 0 and place + 6 < len(it):
        flags = it[place + 5]
        start = place + 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
        width = 1 << (flags & 3)
        end = start + width + int.from_bytes(it[start : start + width], "little")
        if end + 4 <= len(it):
            it[end : end + 4] = lookup3(it[place:end])
        place = it.find(b"OHDR", place + 4)
    return bytes(it)


def lookup3(data: bytes | bytearray) -> bytes:
    """HDF5's checksum of its own structures, 4 bytes: B. Jenkins, lookup3.c, hashlittle()."""

    def rot(x: int, k: int) -> int:
        return (x << k | x >> (32 - k)) & m

    m = 0xFFFFFFFF
    a = b = c = (0xDEADBEEF + len(data)) & m
    blocks = max(0, (len(data) - 1) // 12)
    for i in range(blocks):
        x, y, z = struct.unpack_from("<III", data, 12 * i)
        a, b, c = (a + x) & m, (b + y) & m, (c + z) & m
        a = (a - c & m) ^ rot(c, 4)
        c = c + b & m
        b = (b - a & m) ^ rot(a, 6)
        a = a + c & m
        c = (c - b & m) ^ rot(b, 8)
        b = b + a & m
        a = (a - c & m) ^ rot(c, 16)
        c = c + b & m
        b = (b - a & m) ^ rot(a, 19)
        a = a + c & m
        c = (c - b & m) ^ rot(b, 4)
        b = b + a & m
    if not data:
        return struct.pack("<I", c)
    x, y, z = struct.unpack("<III", bytes(data[12 * blocks :]).ljust(12, b"\0"))
    a, b, c = (a + x) & m, (b + y) & m, (c + z) & m
    c = (c ^ b) - rot(b, 14) & m
    a = (a ^ c) - rot(c, 11) & m
    b = (b ^ a) - rot(a, 25) & m
    c = (c ^ b) - rot(b, 16) & m
    a = (a ^ c) - rot(c, 4) & m
    b = (b ^ a) - rot(a, 14) & m
    c = (c ^ b) - rot(b, 24) & m
    return struct.pack("<I", c)


CHECKPOINT = Checkpoint(
    step=7,
    config=TrainConfig().as_dict(),
    network=NETWORK,
    dataset="ab" * 32,
    request="{}",
    shards=1,
    epoch=dict(loss=0.5, correct=3, seen=8, seconds=1.5),
    best=dict(accuracy=0.5, loss=1.5, step=7, since=0),
    params=VECTOR,
    state=dict(mean=VECTOR, square=VECTOR),
)
WEIGHTS = Weights(NETWORK, 33.3, 78.5, "mnist", "ab" * 32, 7, "cd" * 32, VECTOR)


# IDX


def idx_seeds(folder: Path) -> list[bytes]:
    """Images and labels."""
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    return [idx.idx_bytes(images), idx.idx_bytes(images[:0]), idx.idx_bytes(images[0, 0])]


def write_idx(path: Path, seeds: list[bytes], rng: random.Random) -> None:
    """Change the content, the gzip around it, or both."""
    data = rng.choice(seeds)
    if rng.randrange(3):
        data = mutate(data, seeds, rng)
    if rng.randrange(3):
        data += bytes(rng.choice((0, 1, 10_000, 10_000_000))) if rng.randrange(50) == 0 else b""
        data = gzip.compress(data, 1) * rng.choice((1, 1, 1, 2, 500))
        if rng.randrange(2):
            data = mutate(data, seeds, rng)
    path.write_bytes(data)


def read_idx(path: Path) -> None:
    """As images and as labels."""
    try:
        idx.read_idx(path, 3)
    except UserError:
        idx.read_idx(path, 1)


# TOML


WORDS = [
    "lr",
    "epochs",
    "data",
    "nesterov",
    "=",
    " ",
    "\n",
    ".",
    "[",
    "]",
    "[[",
    "{",
    "}",
    ",",
    '"',
]
WORDS += [
    "'",
    '"""',
    "1",
    "0x",
    "f" * 5000,
    "9" * 5000,
    "1e999",
    "nan",
    "inf",
    "true",
    "1979-05-27",
]
WORDS += [
    "07:32:00",
    "\\u0000",
    "\\",
    "\r",
    "\0",
    "\x1b[2J",
    "é",
    "#",
    "-",
    "_",
    "a." * 500,
    "[" * 3000,
]
WORDS += ["lr = 0.1\n", 'data = "x"\n', "[a]\n", "{a = " * 500]


def toml_seeds(folder: Path) -> list[bytes]:
    """All options, each with its default."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in TrainConfig().as_dict().items()]
    return [
        "\n".join(lines).encode(),
        b"lr = 0.1\nout = 'runs/x'\n",
        *(word.encode() for word in WORDS),
    ]


def write_toml(path: Path, seeds: list[bytes], rng: random.Random) -> None:
    """Change the bytes of valid options, or string words of the language together."""
    if rng.randrange(2):
        data = mutate(rng.choice(seeds[:2]), seeds, rng)
    else:
        data = "".join(rng.choices(WORDS, k=rng.randrange(1, 12))).encode()
        if rng.randrange(20) == 0:
            data *= rng.choice((2, 10, 100, 10_000))
            data = data[:4_000_000]
    path.write_bytes(data)


def read_options(path: Path) -> None:
    """As the command line does."""
    TrainConfig(**read_toml(str(path)))


# Images


def image_seeds(folder: Path) -> list[bytes]:
    """Small pictures in each format and mode."""
    pixels = np.add.outer(np.arange(20), np.arange(17)).astype(np.uint8) * 6
    grey = Image.fromarray(pixels)
    found = []
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "YCbCr"):
        picture = (
            Image.fromarray(pixels.astype("u2") * 200) if mode == "I;16" else grey.convert(mode)
        )
        for form in ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP", "EPS", "ICO", "TGA"):
            with contextlib.suppress(OSError, ValueError):
                file = io.BytesIO()
                picture.save(file, form)
                found.append(file.getvalue())
    for form, options in (
        ("GIF", dict(save_all=True, append_images=[grey, grey])),
        ("PNG", dict(save_all=True, append_images=[grey, grey])),
        ("WEBP", dict(save_all=True, append_images=[grey, grey])),
        ("TIFF", dict(save_all=True, append_images=[grey, grey], compression="tiff_lzw")),
        ("TIFF", dict(compression="tiff_adobe_deflate")),
        ("TIFF", dict(compression="jpeg")),
        ("JPEG", dict(progressive=True)),
    ):
        file = io.BytesIO()
        grey.save(file, form, **options)
        found.append(file.getvalue())
    found += [b"P2\n3 2\n255\n1 2 3\n4 5 6\n", b"P1\n3 2\n0 1 0 1 0 1\n"]
    return found


def write_image(path: Path, seeds: list[bytes], rng: random.Random) -> None:
    """Change the bytes, and make the checksums of a PNG fit again, most of the time."""
    data = rng.choice(seeds)
    data = mutate(data, [data, rng.choice(seeds)], rng)
    if data.startswith(b"\x89PNG") and rng.randrange(4):
        data = with_crcs(data)
    path.write_bytes(data)


def with_crcs(data: bytes) -> bytes:
    """A PNG whose chunks have the checksums that fit."""
    it, place = bytearray(data), 8
    while place + 12 <= len(it):
        end = place + 8 + int.from_bytes(it[place : place + 4], "big")
        if end + 4 > len(it):
            break
        it[end : end + 4] = struct.pack(">I", zlib.crc32(it[place + 4 : end]))
        place = end + 4
    return bytes(it)


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
    "toml": Reader("options.toml", toml_seeds, write_toml, read_options),
    "image": Reader(
        "image",
        image_seeds,
        write_image,
        lambda path: like_mnist(light_on_dark(read_picture(path))),
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
            recipes,
            digit,
            files,
            idx,
            pictures,
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
