"""From a picture to a digit as MNIST has them: ground, place, size and light don't matter."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import photos
import pytest
from drawings import alike, seven, uneven
from PIL import Image, ImageOps

from data_prep.idx import read_idx
from data_prep.idx_set import FILES, find_file
from dist_vgg.data.digit import like_mnist
from dist_vgg.data.pictures import light_on_dark, read_picture


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
    path = find_file(real_mnist, "t10k-images-idx3-ubyte")
    assert path is not None
    shifts = [shift(pixels) for pixels in read_idx(path, 3)[:300]]
    assert max(shifts) <= 1
    assert np.median(shifts) < 0.01  # most are not touched at all


def test_photos_come_out_as_the_digits_they_were_made_from(
    real_mnist: Path, tmp_path: Path
) -> None:
    paths = [find_file(real_mnist, name) for name in FILES["test"]]
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
    path = find_file(real_mnist, "t10k-images-idx3-ubyte")
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
