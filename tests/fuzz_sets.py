"""npz files and CIFAR-10's archive for the fuzz command, valid and changed."""

import gzip
import io
import random
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from fuzz_changes import mutate

from data_prep import cifar10

IMAGES = 2  # in each file of the archive


def npz_seeds(folder: Path) -> list[bytes]:
    """Grey images, and coloured ones that are compressed."""
    found = []
    for save, shape in ((np.savez, (4, 5)), (np.savez_compressed, (4, 5, 3))):
        file, labels = io.BytesIO(), np.arange(6) % 2
        images = np.arange(6 * np.prod(shape), dtype=np.uint8).reshape(6, *shape)
        save(file, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
        found.append(file.getvalue())
    return found


def write_npz(path: Path, seeds: list[bytes], rng: random.Random) -> None:
    """Change an array's file, which gets the checksum that it should have, or the archive."""
    data = rng.choice(seeds)
    if rng.randrange(3):
        file = io.BytesIO()
        with (
            zipfile.ZipFile(io.BytesIO(data)) as old,
            zipfile.ZipFile(file, "w", rng.choice((zipfile.ZIP_STORED, 8, 12, 14))) as new,
        ):
            members = [old.read(name) for name in old.namelist()]
            for name, content in zip(old.namelist(), members, strict=True):
                if rng.randrange(2):
                    content = mutate(content, members, rng)
                if rng.randrange(500) == 0:
                    content += bytes(rng.choice((10_000_000, 100_000_000)))
                new.writestr(name, content)
        data = file.getvalue()
    if rng.randrange(3) == 0:
        data = mutate(data, seeds, rng)
    path.write_bytes(data)


def cifar_seeds(folder: Path) -> list[bytes]:
    """The archive, before it is gzipped."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in (*cifar10.MEMBERS["train"], *cifar10.MEMBERS["test"]):
            info = tarfile.TarInfo(name)
            info.size = IMAGES * cifar10.RECORD
            archive.addfile(info, io.BytesIO(bytes(info.size)))
    return [file.getvalue()]


def write_cifar(path: Path, seeds: list[bytes], rng: random.Random) -> None:
    """Change a member's header, the content, or the gzip around all."""
    data = seeds[0]
    if rng.randrange(4):
        step = 512 * (1 + -(-IMAGES * cifar10.RECORD // 512))
        place = step * rng.randrange(6)
        header = mutate(data[place : place + 512], seeds, rng)[:512].ljust(512, b"\0")
        if rng.randrange(4):  # with the checksum that fits
            total = sum(header[:148]) + sum(header[156:]) + 8 * 32
            header = header[:148] + b"%06o\0 " % total + header[156:]
        data = data[:place] + header + data[place + 512 :]
    if rng.randrange(3) == 0:
        data = mutate(data, seeds, rng)
    data += bytes(200_000_000 if rng.randrange(300) == 0 else 0)
    data = gzip.compress(data, 1)
    path.write_bytes(mutate(data, [data], rng) if rng.randrange(3) == 0 else data)
