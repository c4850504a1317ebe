"""Pictures as a network sees them: from a file or from its bytes, whatever their mode."""

import io
from pathlib import Path

import numpy as np
import pytest
from drawings import seven, uneven
from PIL import Image

from dist_vgg.data.pictures import BadPicture, NoPicture, named_as_picture, prepared, read_picture


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("preparation", ["digit", "crop"])
def test_bytes_are_prepared_as_their_file_is(tmp_path: Path, preparation: str) -> None:
    path = tmp_path / "digit.png"
    path.write_bytes(png(Image.fromarray(uneven(seven()))))
    _, expected = prepared(path, preparation, 32, 1)
    picture, pixels = prepared(path.read_bytes(), preparation, 32, 1)
    assert expected is not None and pixels is not None
    assert pixels.shape == (32, 32, 1) and (pixels == expected).all()
    assert picture.size == Image.open(path).size


def test_a_picture_without_a_digit_has_no_pixels() -> None:
    empty = png(Image.new("L", (40, 50), 90))
    assert prepared(empty, "digit", 32, 1)[1] is None
    assert prepared(empty, "digit", 32, 1, as_is=True)[1] is not None


def test_bytes_that_are_no_picture_have_no_file_to_name() -> None:
    with pytest.raises(NoPicture, match=r"^the picture is no image that Pillow can read; "):
        read_picture(b"seven")
    with pytest.raises(BadPicture, match=r"^can't read the picture: ") as refused:
        read_picture(png(Image.fromarray(seven()))[:-40])
    assert not isinstance(refused.value, NoPicture)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P", "LA", "RGBA"])
def test_an_opaque_picture_is_as_it_is_on_paper(mode: str) -> None:
    """The way through transparency, which opaque pictures don't take, would change nothing."""
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    image = Image.fromarray(noise).convert(mode)
    assert (np.asarray(read_picture(png(image))) == image.convert("RGBA").convert("RGB")).all()


def test_a_level_that_counts_as_transparent_shows_the_paper() -> None:
    image = Image.new("L", (20, 30), 7)
    image.paste(60, (5, 5, 10, 10))
    file = io.BytesIO()
    image.save(file, "PNG", transparency=7)
    found = read_picture(file.getvalue())
    assert found.getpixel((0, 0)) == (255, 255, 255) and found.getpixel((7, 7)) == (60, 60, 60)


def test_names_of_pictures() -> None:
    assert all(map(named_as_picture, map(Path, ("a.png", "a.b.JPEG", "x/a.tif"))))
    assert not any(map(named_as_picture, map(Path, ("a", "a.h5", "a.eps", "runs/lr-0.05"))))
