"""IDX files, options in TOML and images for the fuzz command, valid and changed."""

import contextlib
import gzip
import io
import json
import random
import struct
import zlib
from pathlib import Path

import numpy as np
from fuzz_changes import mutate
from PIL import Image

from data_prep import idx
from dist_vgg.base.errors import UserError
from dist_vgg.runs.config import TrainConfig
from dist_vgg.runs.recipes import read_toml

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
