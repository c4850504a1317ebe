"""Predicting: whatever image a person brings ends up as a digit of MNIST's kind, or in one line."""

import contextlib
import io
import json
import os
import struct
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import photos
import pytest
from PIL import Image, ImageOps
from sets import KERNELS, without_numba

from data_prep import mnist
from data_prep.idx import read_idx
from dist_vgg.base.command_line import run_alone
from dist_vgg.base.errors import UserError
from dist_vgg.data import pictures
from dist_vgg.data.contact_sheet import CELL, GAP, fit
from dist_vgg.data.digit import like_mnist
from dist_vgg.data.pictures import light_on_dark, read_picture
from dist_vgg.network.vgg import initialise, vgg16
from dist_vgg.predict import NO_DIGIT, main
from dist_vgg.state.checkpoint import Weights, save_weights

NETWORK: dict[str, Any] = dict(size=32, channels=1, classes=10, width=0.05)


def some_weights(**network: Any) -> Weights:
    """An untrained network's weights."""
    net = vgg16(**{**NETWORK, **network})
    params = np.zeros(net.parameter_count, np.float32)
    initialise(net, params, seed=0)
    last = net.slots[-2]
    params[last.lo : last.hi] *= 10  # such that its answers differ from image to image
    return Weights(
        network={**NETWORK, **network},
        mean=33.3,
        std=78.5,
        source="mnist",
        dataset="ab" * 32,
        step=1,
        sha256="cd" * 32,
        params=params,
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "weights.h5"
    save_weights(path, some_weights())
    return path


def seven(width: int = 60, height: int = 90) -> np.ndarray:
    """A 7, white on black, in the middle of a picture that is not square."""
    pixels = np.zeros((height, width), np.uint8)
    pixels[25:31, 20:42] = 255
    for row in range(31, 65):
        left = 37 - (row - 31) // 3
        pixels[row, left : left + 5] = 255
    return pixels


def answer(capsys: pytest.CaptureFixture[str], *argv: object) -> list[str]:
    """What predict says of each image, without the path."""
    assert main([str(arg) for arg in argv]) == 0
    output, errors = capsys.readouterr()
    assert errors == ""
    return [line.split(": ", 1)[1] for line in output.splitlines()]


def transparent(pixels: np.ndarray) -> Image.Image:
    """Black ink on nothing."""
    ink = Image.new("RGBA", pixels.shape[::-1], (0, 0, 0, 0))
    ink.putalpha(Image.fromarray(pixels))
    return ink


def palette(pixels: np.ndarray) -> Image.Image:
    """Two colours whose numbers say nothing of how bright they are."""
    image = Image.frombytes("P", pixels.shape[::-1], (pixels == 0).astype(np.uint8).tobytes())
    image.putpalette([255, 255, 255, 0, 0, 0])
    return image


PICTURES: dict[str, Callable[[np.ndarray], Image.Image]] = {
    "dark ground": Image.fromarray,
    "light ground": lambda pixels: Image.fromarray(255 - pixels),
    "colour": lambda pixels: Image.fromarray(255 - pixels).convert("RGB"),
    "pale ink": lambda pixels: Image.fromarray(255 - pixels // 3),
    "on grey": lambda pixels: Image.fromarray(60 + pixels // 2),
    "transparent": transparent,
    "opaque": lambda pixels: Image.fromarray(pixels).convert("RGBA"),
    "grey with transparency": lambda pixels: Image.fromarray(pixels).convert("LA"),
    "palette": palette,
    "one bit": lambda pixels: Image.fromarray(pixels).convert("1"),
    "16 bits": lambda pixels: Image.fromarray(pixels.astype(np.uint16) * 257),
    "16 bits, faint": lambda pixels: Image.fromarray(pixels.astype(np.uint16) * 16 + 4000),
    "16 bits on light ground": lambda pixels: Image.fromarray(65535 - pixels.astype("u2") * 257),
}


@pytest.mark.parametrize("picture", PICTURES)
def test_the_same_digit_in_any_picture(picture: str, tmp_path: Path) -> None:
    path = tmp_path / "digit.png"
    PICTURES[picture](seven()).save(path)
    found = np.asarray(like_mnist(light_on_dark(read_picture(path))), int)
    expected = np.asarray(like_mnist(Image.fromarray(seven())), int)
    assert expected.max() == 255 and (expected[0] == 0).all()
    assert np.abs(found - expected).max() <= 2


def test_jpeg_and_an_exif_rotation(tmp_path: Path) -> None:
    expected = np.asarray(like_mnist(Image.fromarray(seven())), int)
    image = Image.fromarray(255 - seven())
    image.save(tmp_path / "upright.jpg", quality=95)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    image.rotate(90, expand=True).save(tmp_path / "turned.jpg", quality=95, exif=exif)
    for name in ("upright.jpg", "turned.jpg"):
        found = np.asarray(like_mnist(light_on_dark(read_picture(tmp_path / name))), int)
        assert np.abs(found - expected).mean() < 5


@pytest.mark.parametrize("scale", [1, 3])
@pytest.mark.parametrize("corner", [(0, 0), (25, 40)])
def test_size_and_place_in_the_picture_do_not_matter(corner: tuple[int, int], scale: int) -> None:
    digit = ImageOps.scale(Image.fromarray(seven()[20:70, 15:45]), scale, Image.Resampling.BOX)
    frame = Image.new("L", (300, 250))
    frame.paste(digit, corner)
    found = np.asarray(like_mnist(frame), int)
    expected = np.asarray(like_mnist(Image.fromarray(seven())), int)
    assert np.abs(found - expected).max() <= 8


def test_a_thin_pen_in_a_large_picture_does_not_fade() -> None:
    pixels = np.zeros((1000, 1000), np.uint8)
    pixels[100:103, 200:800] = pixels[100:900, 700:703] = 255
    found = np.asarray(like_mnist(Image.fromarray(pixels)))
    assert found.max() == 255
    assert (found > 100).sum() > 25


def centre_of_mass(pixels: np.ndarray) -> np.ndarray:
    rows, columns = np.indices(pixels.shape)
    return np.array([(rows * pixels).sum(), (columns * pixels).sum()]) / pixels.sum()


def shift(pixels: np.ndarray) -> float:
    """How far a digit of MNIST's kind is moved, in pixels."""
    found = np.asarray(like_mnist(Image.fromarray(pixels)), float)
    assert found.shape == (28, 28)
    return np.abs(centre_of_mass(found) - centre_of_mass(pixels.astype(float))).max()


def test_the_centre_of_mass_comes_to_pixel_14() -> None:
    bar = Image.new("L", (7, 20), 255)
    frame = Image.new("L", (50, 50))
    frame.paste(bar, (3, 20))
    assert centre_of_mass(np.asarray(like_mnist(frame), float))[1] == 14


def test_a_digit_in_its_place_stays_there() -> None:
    assert shift(np.asarray(like_mnist(Image.fromarray(seven())))) < 0.1


def test_real_digits_stay_where_they_are(real_mnist: Path) -> None:
    path = mnist.find_file(real_mnist, "t10k-images-idx3-ubyte")
    assert path is not None
    shifts = [shift(pixels) for pixels in read_idx(path, 3)[:300]]
    assert max(shifts) <= 1
    assert np.median(shifts) < 0.01  # most are not touched at all


def test_one_line_for_each_image(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b c.jpg"]
    for path in paths:
        Image.fromarray(seven()).save(path)
    assert main([str(weights.parent), *map(str, paths)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == [str(path) for path in paths]
    shares = [float(part.split()[1].rstrip("%")) for part in lines[0].split("(")[1][:-1].split(",")]
    assert lines[0].split(": ")[1][0] == lines[0].split("(")[1][0]
    assert 100 >= shares[0] >= shares[1] >= shares[2] >= 0


def test_any_kernels_predict(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(seven()).save(path)
    for name in (*KERNELS, "reference"):
        assert answer(capsys, weights, path, "--kernels", name)[0][0].isdigit()


def test_predict_says_what_brings_missing_kernels(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_numba(monkeypatch)
    with pytest.raises(UserError, match=r"--kernels compiled is missing: .*dist_vgg\[fast\]"):
        main([str(weights), str(tmp_path), "--kernels", "compiled"])


def test_the_answer_does_not_depend_on_the_ground_but_on_the_digit(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dark, light, turned = (tmp_path / f"{name}.png" for name in ("dark", "light", "turned"))
    Image.fromarray(seven()).save(dark)
    Image.fromarray(255 - seven()).save(light)
    Image.fromarray(np.rot90(seven()).copy()).save(turned)
    a, b, c = answer(capsys, weights, dark, light, turned)
    assert a == b != c


def test_as_is_only_resizes(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The answers differ, since the digit isn't brought to the middle.
    path = tmp_path / "digit.png"
    Image.fromarray(np.roll(seven(), 20, axis=1)).save(path)
    assert answer(capsys, weights, path) != answer(capsys, weights, path, "--as-is")


def specks() -> np.ndarray:
    """Two bright points, too far apart to be seen once they are brought into a small frame."""
    pixels = np.zeros((1000, 1000), np.uint8)
    pixels[3, 5] = pixels[990, 980] = 255
    return pixels


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((28, 28), np.uint8),
        np.full((28, 28), 255, np.uint8),
        np.full((40, 30), 100, np.uint8),
        np.zeros((1, 1), np.uint8),
        np.full((1, 500), 255, np.uint8),
        np.eye(3, dtype=np.uint8),
        np.zeros((28, 28), np.uint16),
        np.full((28, 28), 40000, np.uint16),
        specks(),
    ],
    ids=lambda pixels: f"{pixels.dtype} {pixels.shape} {pixels[0, 0]}",
)
@pytest.mark.filterwarnings("error")
def test_a_picture_of_nothing_gets_an_answer(
    pixels: np.ndarray, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "nothing.png"
    Image.fromarray(pixels).save(path)
    for flags in ([], ["--as-is"]):
        (line,) = answer(capsys, weights, path, *flags)
        assert "nan" not in line


def refused(*argv: object) -> str:
    """The line in which predict refuses the options, the weights or the only image."""
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            assert main([str(arg) for arg in argv]) == UserError.status
        start, line = "dist_vgg.predict: error: ", told.getvalue()
        assert line.startswith(start) and line.endswith("\n")
        line = line[len(start) : -1]
    except UserError as error:
        line = str(error)
    assert "\n" not in line
    return line


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


def test_weights_of_another_kind(tmp_path: Path) -> None:
    image = tmp_path / "digit.png"
    Image.fromarray(seven()).save(image)
    path = tmp_path / "weights.h5"
    assert refused(path, image).startswith(f"no weights {path};")
    path.write_text("weights")
    assert refused(path, image).startswith(f"{path} can't be used as weights")
    save_weights(path, some_weights(channels=3))
    assert refused(path, image).startswith(f"{path} is for images of several channels")
    save_weights(path, replace(some_weights(), params=np.zeros(7, np.float32)))
    assert refused(path, image).startswith("the weights hold 7 parameters and their network has")


def test_predict_is_one_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["predict", "weights.h5", "a.png"])
    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setenv("PMI_SIZE", "2")
    with pytest.raises(SystemExit) as ended:
        run_alone("dist_vgg.predict", main)
    assert ended.value.code == 2
    expected = "dist_vgg.predict: error: predict is one process: start it without mpirun\n"
    assert capsys.readouterr() == ("", expected)


@pytest.mark.parametrize("argv", [[], ["weights.h5"]])
def test_something_left_out(argv: list[str]) -> None:
    assert "the following arguments are required: " in refused(*argv)


def alike(found: Image.Image | None, digit: np.ndarray) -> float:
    """The cosine of the angle between two digits of MNIST's kind: 1 for the same shape."""
    if found is None:
        return 0
    a, b = np.asarray(found, float).ravel(), digit.astype(float).ravel()
    return a @ b / np.sqrt((a @ a) * (b @ b))


def test_photos_come_out_as_the_digits_they_were_made_from(
    real_mnist: Path, tmp_path: Path
) -> None:
    paths = [mnist.find_file(real_mnist, name) for name in mnist.FILES["test"]]
    images, labels = (read_idx(path, ndim) for path, ndim in zip(paths, (3, 1), strict=True))
    cosines = []
    for photo in photos.photos(images, labels, seed=1, every=10):
        path = tmp_path / photo.name
        path.write_bytes(photo.data)
        found = like_mnist(light_on_dark(read_picture(path)))
        if photo.source is None:
            assert found is None, photo.name
        else:
            cosines.append(alike(found, images[photo.source]))
    assert len(cosines) == 20
    # With a fixed threshold for ink in place of the ground the lowest was 0.23, the median 0.65.
    assert min(cosines) > 0.65
    assert np.median(cosines) > 0.88


def uneven(pixels: np.ndarray, darkest: float = 0.4) -> np.ndarray:
    """Dark ink on beige paper, lit from one corner, with some noise; from white ink on black."""
    height, width = pixels.shape
    light = np.linspace(1, darkest, height * width).reshape(height, width)
    noise = np.random.default_rng(0).normal(0, 3, pixels.shape)
    return np.clip(light * (220 - pixels * (180 / 255)) + noise, 0, 255).astype(np.uint8)


def test_uneven_light_leaves_the_digit_alone() -> None:
    expected = np.asarray(like_mnist(Image.fromarray(seven())))
    assert alike(like_mnist(Image.fromarray(uneven(seven()))), expected) > 0.8  # a row lower


def test_parts_of_a_digit_stay_and_specks_go() -> None:
    pixels = seven()
    pixels[31:38] = 0  # the bar of the 7 is now on its own
    expected = like_mnist(Image.fromarray(pixels))
    rows = np.flatnonzero(np.asarray(expected).any(axis=1))
    assert np.ptp(rows) == 19 and len(rows) < 20
    pixels[3, 3] = pixels[80:82, 50] = 255
    assert alike(like_mnist(Image.fromarray(pixels)), np.asarray(expected)) == pytest.approx(1)


def test_a_digit_that_fills_its_picture(real_mnist: Path) -> None:
    path = mnist.find_file(real_mnist, "t10k-images-idx3-ubyte")
    assert path is not None
    cosines = []
    for pixels in read_idx(path, 3)[:100]:
        rows, columns = (np.flatnonzero(pixels.any(axis=axis)) for axis in (1, 0))
        tight = Image.fromarray(pixels[np.ix_(rows, columns)])
        cosines.append(alike(like_mnist(tight), pixels))
    # A 1 that leaves no ground is a light sheet.
    assert np.mean(np.array(cosines) > 0.8) > 0.85


def test_light_ink_on_nothing_is_seen(tmp_path: Path) -> None:
    ink = Image.new("RGBA", (60, 90), (255, 255, 200, 0))
    ink.putalpha(Image.fromarray(seven()))
    ink.save(tmp_path / "ink.png")
    expected = np.asarray(like_mnist(Image.fromarray(seven())))
    assert alike(like_mnist(light_on_dark(read_picture(tmp_path / "ink.png"))), expected) > 0.99


def cloth() -> np.ndarray:
    """Soft spots as large as strokes, which stand out from each other no more than noise does."""
    spots = np.random.default_rng(1).normal(128, 8, (25, 20))
    return np.asarray(Image.fromarray(spots.astype(np.uint8)).resize((160, 200)))


GROUNDS = {
    "white": np.full((50, 60), 255, np.uint8),
    "black": np.zeros((28, 28), np.uint8),
    "grey": np.full((400, 300), 128, np.uint8),
    "lit from one side": uneven(np.zeros((200, 300), np.uint8), darkest=0.2),
    "noise": np.random.default_rng(0).integers(60, 200, (120, 100)).astype(np.uint8),
    "cloth": cloth(),
    "one pixel": np.zeros((1, 1), np.uint8),
    "specks": specks(),
}


@pytest.mark.parametrize("ground", GROUNDS)
def test_where_there_is_no_digit_none_is_found(
    ground: str, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "empty.png"
    Image.fromarray(GROUNDS[ground]).save(path)
    assert answer(capsys, weights, path) == ["no digit found"]
    assert answer(capsys, weights, path, "--as-is") != ["no digit found"]


def three(folder: Path) -> list[Path]:
    """A digit, a file that is no image, and a picture without a digit."""
    digit, text, empty = (folder / name for name in ("digit.png", "text.png", "empty.png"))
    Image.fromarray(uneven(seven())).save(digit)
    text.write_text("seven")
    Image.fromarray(np.full((40, 50), 90, np.uint8)).save(empty)
    return [digit, text, empty]


def test_one_bad_file_among_several(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digit, text, empty = three(tmp_path)
    assert main([str(weights), str(digit), str(text), str(empty)]) == 2
    output, errors = capsys.readouterr()
    first, second = output.splitlines()
    assert first.startswith(f"{digit}: ") and first.endswith("%)")
    assert second == f"{empty}: no digit found"
    assert errors == (
        f"dist_vgg.predict: error: {text} is no image that Pillow can read; "
        "name a PNG or JPEG file\n"
    )


def test_json(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digit, text, empty = three(tmp_path)
    (line,) = answer(capsys, weights, digit)
    assert main([str(weights), "--json", str(digit), str(text), str(empty)]) == 2
    seen, bad, nothing = json.loads(capsys.readouterr().out)
    assert seen["image"] == str(digit)
    assert str(seen["prediction"]) == line[0]
    assert len(seen["probabilities"]) == 10
    assert sum(seen["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert int(np.argmax(seen["probabilities"])) == seen["prediction"]
    assert bad == {
        "image": str(text),
        "prediction": None,
        "probabilities": None,
        "error": f"{text} is no image that Pillow can read; name a PNG or JPEG file",
    }
    assert nothing == {"image": str(empty), "prediction": None, "probabilities": None}
    assert main([str(weights), "--json", str(digit), str(empty)]) == 0


def test_show(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digit, text, empty = three(tmp_path)
    shown = tmp_path / "shown.png"
    assert main([str(weights), "--show", str(shown), str(digit), str(text), str(empty)]) == 2
    with Image.open(shown) as image:
        pixels = np.asarray(image.convert("L"), int)
        assert image.format == "PNG"
    # Two cells beside each other for every image: the 7 as it is, and light on black.
    across, top = 2 * (CELL + GAP) + GAP, slice(GAP, GAP + CELL)
    cells = [pixels[top, x : x + CELL] for x in (GAP, CELL + 2 * GAP, across + GAP)]
    with Image.open(digit) as image:
        given = np.asarray(ImageOps.contain(image, (CELL, CELL)), int)
    margin = (CELL - given.shape[1]) // 2
    assert np.abs(cells[0][:, margin : margin + given.shape[1]] - given).max() <= 1
    expected = like_mnist(light_on_dark(read_picture(digit)))
    assert expected is not None
    enlarged = np.asarray(expected.resize((CELL, CELL), Image.Resampling.BICUBIC))
    assert alike(Image.fromarray(cells[1].astype(np.uint8)), enlarged) > 0.95
    assert (cells[2][2:-2, 2:-2] == 64).all()  # nothing of the file that is no image
    assert pixels.shape[1] == 3 * across + GAP
    captions = pixels[GAP + CELL + 1 : -GAP]
    assert all((captions[:, x : x + CELL] > 200).any() for x in (GAP, across, 2 * across))


def test_a_strip_keeps_nobody_from_being_predicted(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(Image.new("L", (1000, 3))).size == (CELL, 1)  # Pillow's own way comes to 0
    paths = [tmp_path / "wide.png", tmp_path / "high.png", *three(tmp_path)[:1]]
    for path, size in zip(paths, [(1000, 3), (3, 1000)], strict=False):
        Image.new("L", size, 200).save(path)
    assert main([str(weights), "--show", str(tmp_path / "shown.png"), *map(str, paths)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.endswith(NO_DIGIT) for line in lines] == [True, True, False]


def test_show_that_can_not_be_written(weights: Path, tmp_path: Path) -> None:
    digit = three(tmp_path)[0]
    assert refused(weights, digit, "--show", "a.jpg") == "--show a.jpg: name a .png file"
    path = tmp_path / "gone" / "a.png"
    line = refused("no-weights", digit, "--show", path)  # before anything else is looked at
    assert line.startswith(f"can't write --show {path}: No such file or directory")


def test_many_names_in_a_show(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / f"{'ü☃' * 40}{n}.png" for n in range(5)]
    for path in paths:
        Image.fromarray(seven()).save(path)
    shown = tmp_path / "shown.png"
    answer(capsys, weights, *paths, "--show", shown)
    with Image.open(shown) as image:
        assert image.size == (
            3 * (2 * (CELL + GAP) + GAP) + GAP,
            2 * (CELL + 2 * 13 + 2 * GAP) + GAP,
        )
