"""An image that can't be read is one line, whatever its decoder makes of it."""

import os
import struct
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from drawings import seven
from PIL import Image, ImageOps
from predicting import refused

from dist_vgg.data import pictures


def test_a_file_that_is_no_image(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "digit.png"
    path.write_text("seven")
    expected = f"{path} is no image that Pillow can read; name a PNG or JPEG file"
    assert refused(weights, path) == expected
    path.write_bytes(b"")
    assert refused(weights, path) == expected


def test_a_missing_image_or_a_folder(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "gone.png"
    assert refused(weights, path) == f"can't read the image {path}: No such file or directory"
    assert refused(weights, tmp_path) == f"can't read the image {tmp_path}: Is a directory"


@pytest.mark.parametrize("name", ["digit.png", "digit.jpg", "digit.gif", "digit.bmp", "digit.tiff"])
def test_an_image_cut_short(name: str, weights: Path, tmp_path: Path) -> None:
    path = tmp_path / name
    noise = np.random.default_rng(0).integers(0, 256, (60, 60), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert str(path) in refused(weights, path)


def test_a_damaged_png(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "digit.png"
    noise = np.random.default_rng(0).integers(0, 256, (60, 60), np.uint8)
    Image.fromarray(noise).save(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes(data)
    assert refused(weights, path).startswith(f"can't read the image {path}: ")


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A grey PNG of that size, with chunks before the picture; its pixels are missing."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in ((b"IHDR", head), *chunks)
    )


def test_an_image_of_too_many_pixels(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "digit.png"
    for side in (5793, 10_000, 14_000, 2**31 - 1):  # Pillow warns of the second, refuses the third
        path.write_bytes(png(side, side, (b"IDAT", b"")))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            line = refused(weights, path)
        if side <= 10_000:
            expected = f"{side} x {side} pixels are more than 33,554,432; make it smaller"
            assert line == f"can't read the image {path}: {expected}"


def test_chunks_that_claim_or_swell_to_much(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "digit.png"
    text = b"Comment\0\0" + zlib.compress(bytes(100_000_000))
    for data in (
        png(20, 20, (b"zTXt", text), (b"IDAT", b"")),
        png(20, 20) + b"\xff\xff\xff\xf0IDAT" + zlib.compress(bytes(10)),
    ):
        path.write_bytes(data)
        tracemalloc.start()
        refused(weights, path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
        tracemalloc.stop()


def test_a_file_too_large_for_an_image(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "digit.png"
    Image.fromarray(seven()).save(path)
    path.write_bytes(path.read_bytes().ljust(3 << 20, b"x"))
    monkeypatch.setattr(pictures, "MAX_BYTES", 2 << 20)
    assert refused(weights, path) == f"the image {path} is larger than 2 MiB; make it smaller"


def test_formats_that_start_another_program_are_off(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "digit.png"
    Image.fromarray(seven()).save(path, "EPS")
    assert refused(weights, path).startswith(f"{path} is no image that Pillow can read")


def test_a_pipe_is_no_image(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    for endless in (path, "/dev/zero"):
        assert refused(weights, endless) == f"can't read the image {endless}: it is no file"


@pytest.mark.parametrize(
    "error", [KeyError("x"), MemoryError(), IndexError("a\nb"), struct.error()]
)
def test_whatever_a_decoder_raises_is_one_line(
    error: Exception, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "digit.png"
    Image.fromarray(seven()).save(path)

    def fails(image: Image.Image) -> Image.Image:
        raise error

    monkeypatch.setattr(ImageOps, "exif_transpose", fails)
    assert refused(weights, path).startswith(f"can't read the image {path}: ")


def test_decoders_print_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], weights: Path
) -> None:
    path = tmp_path / "digit.tiff"
    noise = np.random.default_rng(0).integers(0, 256, (60, 60), np.uint8)
    Image.fromarray(noise).save(path, compression="tiff_adobe_deflate")
    data = bytearray(path.read_bytes())
    data[1000] ^= 0x55  # libtiff writes of it to the error output
    path.write_bytes(data)
    refused(weights, path)
    assert capfd.readouterr() == ("", "")
    os.write(2, b"still\n")
    assert capfd.readouterr() == ("", "still\n")


def test_pixels_that_are_no_numbers(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "digit.tiff"
    pixels = seven().astype(np.float32)
    pixels[3, 3] = np.nan
    Image.fromarray(pixels).save(path)
    assert "its pixels are not all finite" in refused(weights, path)
