"""Predict the class of image files with trained weights.

python -m dist_vgg.predict runs/NAME digit.png photo.jpg
"""

import io
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from dist_vgg import functional as F
from dist_vgg.checkpoint import load_weights
from dist_vgg.comm import run_alone
from dist_vgg.command_line import Parser
from dist_vgg.errors import UserError
from dist_vgg.evaluate import load_network
from dist_vgg.shards import normalise

# MNIST's digits are scaled into 20x20 and put into 28x28 with their centre of mass on pixel 14.
SIDE, BOX = 28, 20
INK = 64  # of 255: fainter pixels are paper

# None that needs another program (EPS: Ghostscript) or is seldom seen, and so seldom tested.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
MAX_BYTES, MAX_PIXELS = 128 << 20, 1 << 25


def read_image(path: Path) -> Image.Image:
    """A common image file, in grey levels, the digit light on a dark ground.

    Transparency is taken as white paper. What the border is made of is the ground.
    Raises UserError for a file that is no image, or too large a one: memory stays below 1 GB.
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
    paper = Image.new("RGBA", rgba.size, "white")
    grey = Image.alpha_composite(paper, rgba).convert("L")
    pixels = np.asarray(grey)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return ImageOps.invert(grey) if np.median(border) > 127 else grey


def _decoded(data: bytes) -> Image.Image:
    """The first picture in an image file's bytes, upright, with transparency."""
    # From memory, since decoders ask a file for as many bytes as it says that it has.
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


def like_mnist(image: Image.Image) -> Image.Image:
    """Bring a light digit on a dark ground to MNIST's size and place (LeCun et al., 1998)."""
    image = ImageOps.autocontrast(image)
    box = image.point(lambda level: 255 if level > INK else 0).getbbox()
    if box is None:
        return image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    digit = image.crop(box)
    scale = BOX / max(digit.size)
    width, height = (max(1, round(side * scale)) for side in digit.size)
    pixels = np.asarray(digit.resize((width, height), Image.Resampling.BICUBIC), np.float64)
    if not pixels.any():  # specks too small to see
        return Image.new("L", (SIDE, SIDE))
    pixels *= 255 / pixels.max()  # a thin pen fades as a large picture shrinks
    mass = pixels.sum()
    centre_x = (pixels.sum(axis=0) @ np.arange(width)) / mass
    centre_y = (pixels.sum(axis=1) @ np.arange(height)) / mass
    x, y = (
        int(np.clip(round(SIDE / 2 - centre), 0, SIDE - extent))
        for centre, extent in ((centre_x, width), (centre_y, height))
    )
    frame = np.zeros((SIDE, SIDE), np.uint8)
    frame[y : y + height, x : x + width] = pixels.round()
    return Image.fromarray(frame)


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit status."""
    parser = Parser(prog="python -m dist_vgg.predict", description=__doc__.split("\n")[0])
    parser.add_argument(
        "weights", metavar="WEIGHTS", type=Path, help="weights.h5, or a run's folder"
    )
    parser.add_argument("images", metavar="IMAGE", type=Path, nargs="+", help="one digit in each")
    parser.add_argument(
        "--as-is", action="store_true", help="only resize; don't crop and centre as in MNIST"
    )
    options = parser.parse_args(argv)
    weights = load_weights(options.weights)
    if weights.network["channels"] != 1:
        raise UserError(f"{options.weights} is for images of several channels; predict takes grey")
    net = load_network(weights)
    side = weights.network["size"]
    frames = []
    for path in options.images:
        image = read_image(path)
        image = image if options.as_is else like_mnist(image)
        # The filter with which data_prep enlarged the training images.
        frames.append(np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)))
    for path, frame in zip(options.images, frames, strict=True):
        # One by one, so that an image's numbers don't depend on its company.
        x = normalise(frame[None, :, :, None], weights.mean, weights.std)
        (p,) = F.softmax(net.forward(x))
        ranking = np.argsort(-p)
        shown = ", ".join(f"{k} {p[k]:.1%}" for k in ranking[:3])
        print(f"{path}: {ranking[0]}   ({shown})")
    return 0


if __name__ == "__main__":
    run_alone("dist_vgg.predict", main)
