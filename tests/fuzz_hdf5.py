"""HDF5 files for the fuzz command: valid ones, and changed ones with digests that fit."""

import contextlib
import copy
import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import lies
import numpy as np
from fuzz_changes import mutate

from dist_vgg.base import files
from dist_vgg.data.samples import Samples
from dist_vgg.data.set_info import SetInfo
from dist_vgg.runs.config import TrainConfig
from dist_vgg.state.checkpoint import Checkpoint
from dist_vgg.state.weights import Weights

NETWORK = dict(size=32, channels=1, classes=10, width=0.05)
VECTOR = np.arange(40, dtype=np.float32)
SAMPLES = Samples(
    np.arange(3 * 32 * 32, dtype=np.uint8).reshape(3, 32, 32, 1), np.arange(3), np.arange(3)
)
INFO = SetInfo(
    "mnist", "{}", 1, 32, 1, 10, (33.3,), (78.5,), "bicubic", 0, 3, 3, "ab" * 32
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
WEIGHTS = Weights(NETWORK, (33.3,), (78.5,), "mnist", "ab" * 32, 7, "cd" * 32, VECTOR)
