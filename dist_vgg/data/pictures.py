"""Pictures that users bring: any common image file, read upright and without transparency."""

import io
import os
import stat
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from dist_vgg.base.errors import UserError
from dist_vgg.data.digit import like_mnist

# No format that needs another program (EPS: Ghostscript), or that is rare and so little tested.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
MAX_BYTES, MAX_PIXELS = 128 << 20, 1 << 25
OPAQUE = ("1", "L", "RGB")  # Pillow's modes of pictures that are as they will be used
Source = Path | bytes  # an image file, or what is in one


class BadPicture(UserError):
    """An image file that can't be used; `why` says the reason without the file's name."""

    def __init__(self, words: str, why: str) -> None:
        super().__init__(words)
        self.why = why


class NoPicture(BadPicture):
    """A file that is no image, as far as Pillow can tell."""


def prepared(
    source: Source, preparation: str, size: int, channels: int, as_is: bool = False
) -> tuple[Image.Image, np.ndarray | None]:
    """A picture, and the pixels that a network sees of it: (size, size, channels) uint8.

    They are made as its training images were, by one of base/bounds.py's PREPARATIONS, or are only
    resized where the picture is to be taken as it is; None where there is no digit. Decoders may
    print: call it in `silent`. Raises BadPicture as `read_picture` does.
    """
    if preparation == "digit":
        picture = read_picture(source)
        grey = light_on_dark(picture)
        image, fit = grey if as_is else like_mnist(grey), "stretch"
    else:
        picture = image = read_image(source)
        fit = "stretch" if as_is else preparation
    return picture, None if image is None else network_pixels(image, size, channels, fit)


def read_picture(source: Source) -> Image.Image:
    """Read an image file in RGB as a person sees it, with paper behind what is transparent.

    Decoders may print: call it in `silent`. Raises BadPicture for a file that is no image, or is
    too large; memory stays below 1 GB.
    """

    def on_paper(image: Image.Image) -> Image.Image:
        if image.mode in OPAQUE and "transparency" not in image.info:
            return image.convert("RGB")
        rgba = _stretched(image).convert("RGBA")
        paper = Image.new("RGBA", rgba.size, _paper(rgba))
        return Image.alpha_composite(paper, rgba).convert("RGB")

    return _read(source, on_paper)


def read_image(source: Source) -> Image.Image:
    """Read an image file as training sets take it: grey or RGB, white where it is transparent.

    Levels of 16 bits become 8 bits alike in all images. Decoders may print: call it in `silent`.
    Raises BadPicture as `read_picture` does.
    """
    return _read(source, _plain)


def named_as_picture(path: Path) -> bool:
    """Whether a file's name ends as those of pictures do."""
    return Image.registered_extensions().get(path.suffix.lower()) in FORMATS


def network_pixels(image: Image.Image, size: int, channels: int, fit: str) -> np.ndarray:
    """The pixels that a network sees of a grey or RGB image: (size, size, channels) uint8.

    `channels` is 1 or 3. The fit "crop" scales the shorter side and cuts out the middle, "pad"
    scales the longer side and puts black around, and "stretch" scales each side by itself.
    """
    mode = "L" if channels == 1 else "RGB"
    image = image if image.mode == mode else image.convert(mode)
    if fit == "crop":
        side = min(image.size)
        left, top = ((extent - side) / 2 for extent in image.size)
        box = (left, top, left + side, top + side)
        fitted = image.resize((size, size), Image.Resampling.BICUBIC, box)
    elif fit == "pad" and image.width != image.height:
        scale = size / max(image.size)
        width, height = (max(1, round(extent * scale)) for extent in image.size)
        fitted = Image.new(mode, (size, size))
        inner = image.resize((width, height), Image.Resampling.BICUBIC)
        fitted.paste(inner, ((size - width) // 2, (size - height) // 2))
    else:
        fitted = image.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(fitted).reshape(size, size, channels)


def light_on_dark(picture: Image.Image) -> Image.Image:
    """A picture in grey levels, inverted where its border is light."""
    grey = picture.convert("L")
    pixels = np.asarray(grey)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return ImageOps.invert(grey) if np.median(border) > 127 else grey


def _paper(rgba: Image.Image) -> str:
    """The colour of the paper: black where all ink is light, else white."""
    drawn = rgba.getchannel("A").point(lambda alpha: 255 if alpha > 127 else 0)
    levels = rgba.convert("L").histogram(drawn)
    sparse = 0 < 2 * sum(levels) < rgba.width * rgba.height
    return "black" if sparse and not any(levels[:128]) else "white"


def _read(source: Source, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """The first picture in an image file, upright and converted; BadPicture where that fails."""
    name = "the picture" if isinstance(source, bytes) else str(source)
    image_name = name if isinstance(source, bytes) else f"the image {name}"
    try:
        data = source if isinstance(source, bytes) else _bytes_of(source)
        # Decode from memory: given a file, decoders request as many bytes as it claims to have.
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(
                    f"{image.width} x {image.height} pixels are more than {MAX_PIXELS:,}; "
                    "make it smaller"
                )
            return convert(ImageOps.exif_transpose(image))
    except BadPicture:
        raise
    except UnidentifiedImageError as error:
        why = "no image that Pillow can read"
        raise NoPicture(f"{name} is {why}; name a PNG or JPEG file", why) from error
    except Exception as error:  # whatever a decoder stumbles over
        why = getattr(error, "strerror", None) or " ".join(str(error).split()) or "damaged"
        raise BadPicture(f"can't read {image_name}: {why}", why) from error


def _bytes_of(path: Path) -> bytes:
    """What is in a file; BadPicture for what has no end, or is too large."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise BadPicture(f"can't read the image {path}: it is no file", "it is no file")
    if status.st_size > MAX_BYTES:
        why = f"larger than {MAX_BYTES >> 20} MiB"
        raise BadPicture(f"the image {path} is {why}; make it smaller", why)
    return path.read_bytes()


@contextmanager
def silent() -> Iterator[TextIO]:
    """Keep decoders from printing: Pillow warns and logs, libtiff writes to the error output.

    It holds for the whole process, so one of its threads enters, on behalf of all. Yields the error
    output, for those who have something to say meanwhile.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with (
        warnings.catch_warnings(),
        Path(os.devnull).open("wb") as nothing,
        os.fdopen(kept, "w") as errors,
    ):
        warnings.simplefilter("ignore")
        os.dup2(nothing.fileno(), 2)
        try:
            yield errors
        finally:
            errors.flush()
            os.dup2(kept, 2)


def _stretched(image: Image.Image) -> Image.Image:
    """Stretch grey levels of 16 or more bits to 0..255; Pillow would cut them off at 255."""
    if not image.mode.startswith(("I", "F")):
        return image
    levels = np.array(image, np.float32)
    span = float(np.ptp(levels))
    if not np.isfinite(span):
        raise ValueError("its pixels are not all finite")
    levels -= levels.min()
    levels *= 255 / span if span else 0
    return Image.fromarray(np.rint(levels, out=levels).astype(np.uint8))


def _plain(image: Image.Image) -> Image.Image:
    """An image of any mode in grey or RGB, with levels that neighbours can be compared by."""
    if image.mode.startswith("I"):  # Pillow's way to hold levels of 16 bits
        levels = np.array(image, np.int64)
        if levels.min() < 0 or levels.max() > 65535:
            raise ValueError("its grey levels are not of 16 bits")
        return Image.fromarray(np.rint(levels / 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("its grey levels are fractions without a known white")
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")  # also palettes, CMYK, YCbCr
