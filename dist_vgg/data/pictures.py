"""Pictures that users bring: any common image file, read upright and without transparency."""

import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from dist_vgg.base.errors import UserError

# No format that needs another program (EPS: Ghostscript), or that is rare and so little tested.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
MAX_BYTES, MAX_PIXELS = 128 << 20, 1 << 25


def read_picture(path: Path) -> Image.Image:
    """Read an image file in RGB as a person sees it, with paper behind what is transparent.

    Raises UserError for a file that is no image, or is too large; memory stays below 1 GB.
    """
    try:
        if not path.is_dir() and not path.is_file() and path.exists():
            raise UserError(f"can't read the image {path}: it is no file")
        if path.stat().st_size > MAX_BYTES:
            raise UserError(
                f"the image {path} is larger than {MAX_BYTES >> 20} MiB; make it smaller"
            )
        with _silent():
            rgba = _decoded(path.read_bytes())
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise UserError(
            f"{path} is no image that Pillow can read; name a PNG or JPEG file"
        ) from error
    except Exception as error:  # whatever a decoder stumbles over
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or "damaged"
        raise UserError(f"can't read the image {path}: {reason}") from error
    paper = Image.new("RGBA", rgba.size, _paper(rgba))
    return Image.alpha_composite(paper, rgba).convert("RGB")


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


def _decoded(data: bytes) -> Image.Image:
    """The first picture in an image file's bytes, upright, with transparency."""
    # Decode from memory: given a file, decoders request as many bytes as it claims to have.
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(
                f"{image.width} x {image.height} pixels are more than {MAX_PIXELS:,}; "
                "make it smaller"
            )
        return _eight_bits(ImageOps.exif_transpose(image)).convert("RGBA")


@contextmanager
def _silent() -> Iterator[None]:
    """Keep decoders from printing: Pillow warns and logs, libtiff writes to the error output."""
    sys.stderr.flush()
    kept = os.dup(2)
    with warnings.catch_warnings(), Path(os.devnull).open("wb") as nothing:
        warnings.simplefilter("ignore")
        os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _eight_bits(image: Image.Image) -> Image.Image:
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
