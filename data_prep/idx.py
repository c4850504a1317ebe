"""IDX is MNIST's file format: an array of bytes behind a short header, often gzipped."""

import hashlib
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from dist_vgg.base.errors import UserError

MAX_BYTES = 64 << 20  # the largest of MNIST's four files has 47 million bytes
MAX_SWELLING = 200  # times its size: what a file with more than MAX_BYTES may unzip to


def read_idx(path: Path, ndim: int, called: str | None = None, most: int = MAX_BYTES) -> np.ndarray:
    """Read an IDX file of `most` bytes with `ndim` dimensions, gzipped or not.

    Big-endian: 0, 0, 8 for unsigned bytes, ndim; then a uint32 for each dimension; then the
    data. Raises a UserError that names the file, as `called` if given.
    """
    called = called or str(path)
    too_much = "not of MNIST" if most == MAX_BYTES else "too large"
    try:
        if path.stat().st_size > most:
            raise UserError(f"{called} is {too_much}: it has more than {most:,} bytes")
        stored = path.read_bytes()
    except OSError as error:
        raise UserError(f"can't read {called}: {error.strerror or error}") from error
    unzip = _Plain() if stored[:2] != b"\x1f\x8b" else zlib.decompressobj(wbits=31)
    try:
        header = unzip.decompress(stored, 4 + 4 * ndim)
        if len(header) < 4 + 4 * ndim and not unzip.eof:
            raise UserError(f"{called} is a damaged or cut-short gzip file")
        if header[:4] != bytes((0, 0, 8, ndim)):
            raise UserError(
                f"{called} is not an IDX file of {ndim}-dimensional bytes: "
                f"it begins with {header[:4].hex() or 'nothing'} instead of 0000080{ndim}"
            )
        if len(header) < 4 + 4 * ndim:
            raise UserError(f"{called} is cut short: it ends within its header")
        shape = struct.unpack(f">{ndim}I", header[4:])
        size = math.prod(shape)
        if max(size, *shape) > most:  # a side may be huge beside one of 0
            raise UserError(
                f"{called} is {too_much}: its header announces {' x '.join(map(str, shape))} "
                f"bytes, more than {most:,}"
            )
        check_swelling(called, len(stored), size)
        # One byte more than announced is enough to notice a longer file, however far it swells.
        data = unzip.decompress(unzip.unconsumed_tail, size + 1)
    except zlib.error as error:
        raise UserError(f"{called} is a damaged or cut-short gzip file") from error
    # A single gzip, as MNIST's are, followed by zeros at most: millions of empty ones take minutes.
    if len(data) <= size and (not unzip.eof or unzip.unused_data.strip(b"\0")):
        raise UserError(f"{called} is a damaged or cut-short gzip file")
    if len(data) != size:
        found = f"more than {size:,}" if len(data) > size else f"{len(data):,}"
        raise UserError(
            f"{called} has another length than its header says: "
            f"{found} bytes of data instead of {size:,}"
        )
    return np.frombuffer(data, np.uint8).reshape(shape)


class _Plain:
    """A stand-in for zlib's decompressobj, for bytes that are not compressed."""

    unconsumed_tail = unused_data = b""
    eof = True

    def decompress(self, data: bytes, most: int) -> bytes:
        """The first bytes, at most `most`; the others are left as `unconsumed_tail`."""
        self.unconsumed_tail = data[most:]
        return data[:most]


def idx_bytes(array: np.ndarray) -> bytes:
    """The content of the IDX file that holds an array of bytes."""
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return head + np.ascontiguousarray(array, np.uint8).tobytes()


def idx_sha256(array: np.ndarray) -> str:
    """SHA-256 of the uncompressed IDX file that holds an array."""
    return hashlib.sha256(idx_bytes(array)).hexdigest()


def check_swelling(called: str, stored: int, size: int) -> None:
    """Raise UserError where a file announces so much more than it holds that it must be a lie."""
    if size > max(MAX_BYTES, MAX_SWELLING * stored):
        raise UserError(
            f"{called} would unzip from {stored:,} to {size:,} bytes, which no images do"
        )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as it is stored."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
