"""Photo-like pictures of MNIST's test digits, the same for the same seed, and how predict does.

python tests/photos.py runs/NAME --raw DIR
python tests/photos.py runs/NAME --raw DIR --seed 1 --keep pictures

200 pictures of a digit: on a light or dark ground, flat, unevenly lit or grainy, or on none at all
(transparent); in inks of several colours and pens of several widths, away from the middle, with
noise, as PNG or JPEG, some turned as a camera turns them, of 40 to 1,000 pixels a side. And 30
without a digit. Whoever improves the preparation does so on other seeds than 0, which is the test.
"""

import argparse
import io
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from data_prep import mnist
from dist_vgg.base.errors import UserError
from dist_vgg.formats.trained import load_network
from dist_vgg.predict import answer
from dist_vgg.state.weights import load_weights

SIDES = 40, 1000
SMALLEST_DIGIT = 16  # pixels; nobody could read fainter ones after JPEG
FINE = 8  # times MNIST's resolution, at which the pen is made wider or narrower

# How many pictures have which ground.
DIGITS = {
    "light flat": 20,
    "light linear": 40,
    "light radial": 40,
    "light grain": 30,
    "dark flat": 10,
    "dark linear": 20,
    "dark radial": 20,
    "dark grain": 10,
    "transparent, dark ink": 6,
    "transparent, light ink": 4,
}
EMPTY = {
    "light flat": 5,
    "light linear": 4,
    "light radial": 4,
    "light grain": 5,
    "dark flat": 3,
    "dark linear": 3,
    "dark radial": 3,
    "dark grain": 2,
    "transparent, dark ink": 1,
}

GROUNDS = {  # red, green, blue at full light
    "light": [(245, 245, 245), (225, 225, 225), (190, 190, 190), (235, 222, 195), (205, 195, 175),
              (215, 225, 240)],
    "dark": [(15, 15, 15), (50, 50, 50), (80, 80, 80), (30, 60, 45), (25, 35, 70), (60, 45, 35)],
}  # fmt: skip
INKS = {
    "light": [(20, 20, 20), (45, 45, 50), (90, 90, 90), (25, 45, 140), (170, 35, 45), (25, 95, 50)],
    "dark": [(250, 250, 250), (215, 215, 215), (240, 225, 110), (150, 205, 245), (245, 180, 190)],
}
# EXIF's number for how the camera was held, and what turns the upright picture into the stored one.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@dataclass(frozen=True)
class Photo:
    """An image file in memory."""

    kind: str  # of DIGITS or EMPTY
    label: int | None  # None where there is no digit
    source: int | None  # the row of the digit among the images it was made from
    name: str  # what it would be called as a file
    data: bytes


def photos(images: np.ndarray, labels: np.ndarray, seed: int, every: int = 1) -> Iterator[Photo]:
    """The 200 pictures of digits, then the 30 without one; images are (n, 28, 28), as in MNIST.

    With `every`, only the first of so many: each is drawn from a generator of its own.
    """
    rows = np.random.default_rng(seed).permutation(len(images))
    kinds = [(kind, True) for kind, count in DIGITS.items() for _ in range(count)]
    kinds += [(kind, False) for kind, count in EMPTY.items() for _ in range(count)]
    for index, (kind, written) in list(enumerate(kinds))[::every]:
        rng = np.random.default_rng([seed, index])
        row = int(rows[index]) if written else None
        label = int(labels[row]) if written else None
        suffix, data = encode(draw(kind, images[row] if written else None, rng), rng)
        stem = f"{index:03d}-{kind.replace(', ', '-').replace(' ', '-')}-{label}"
        yield Photo(kind, label, row, f"{stem}.{suffix}", data)


def draw(kind: str, digit: np.ndarray | None, rng: np.random.Generator) -> Image.Image:
    """One picture, RGB, or RGBA where the ground is transparent."""
    long = int(np.exp(rng.uniform(*np.log(SIDES))))
    short = max(SIDES[0], int(long * rng.uniform(0.6, 1)))
    height, width = (long, short) if rng.random() < 0.5 else (short, long)
    ink = (
        np.zeros((height, width)) if digit is None else placed(pen(digit, rng), width, height, rng)
    )
    ink *= rng.uniform(0.8, 1) - 0.2 * smooth((height, width), max(height, width) / 8, rng)
    where, _, what = kind.partition(" ")
    if where == "transparent,":
        colours = INKS["light" if what == "dark ink" else "dark"]
        rgba = np.empty((height, width, 4))
        rgba[..., :3] = colours[rng.integers(len(colours))]
        rgba[..., 3] = 255 * ink
        return Image.fromarray(np.rint(np.clip(rgba, 0, 255)).astype(np.uint8))
    ground = np.array(GROUNDS[where][rng.integers(len(GROUNDS[where]))], float)
    colour = np.array(INKS[where][rng.integers(len(INKS[where]))], float)
    grain = rng.uniform(0.04, 0.1) if what == "grain" else rng.uniform(0, 0.02)
    size = rng.uniform(0.7, 3) * max(1, long / 300)
    paper = 1 + grain * (smooth((height, width), size, rng) * 2 - 1)
    light = (lit(what, width, height, rng) * paper)[..., None]
    picture = light * (ground * (1 - ink[..., None]) + colour * ink[..., None])
    if rng.random() < 0.5:  # out of focus
        blur = ImageFilter.GaussianBlur(rng.uniform(0, long / 300))
        soft = Image.fromarray(np.rint(np.clip(picture, 0, 255)).astype(np.uint8)).filter(blur)
        picture = np.asarray(soft, float)
    picture += rng.normal(0, rng.uniform(0, 10), picture.shape)
    return Image.fromarray(np.rint(np.clip(picture, 0, 255)).astype(np.uint8))


def pen(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """A digit of MNIST cut out and enlarged, drawn with a wider or narrower pen; L."""
    framed = Image.fromarray(np.pad(digit, 4))
    fine = framed.resize((framed.width * FINE, framed.height * FINE), Image.Resampling.BICUBIC)
    sharp = fine.point(lambda level: min(255, max(0, (level - 128) * 3 + 128)))
    change = round(rng.uniform(-0.5, 0.8) * FINE)  # at each side of the stroke
    while change < 0:  # a pen so narrow that the digit goes is none
        narrow = sharp.filter(ImageFilter.MinFilter(1 - 2 * change))
        if np.asarray(narrow).sum() > 0.4 * np.asarray(sharp).sum():
            break
        change += 1
    if change > 0:
        sharp = sharp.filter(ImageFilter.MaxFilter(1 + 2 * change))
    elif change < 0:
        sharp = narrow
    return sharp.crop(sharp.point(lambda level: 255 * (level > 20)).getbbox())


def placed(digit: Image.Image, width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """The digit somewhere in the picture, filling 25% to 80% of its shorter side; 0 to 1."""
    extent = max(SMALLEST_DIGIT, rng.uniform(0.25, 0.8) * min(width, height))
    scale = extent / max(digit.size)
    w, h = (max(1, round(side * scale)) for side in digit.size)
    left, top = rng.integers(1, width - w), rng.integers(1, height - h)
    frame = np.zeros((height, width))
    resized = digit.resize((w, h), Image.Resampling.BICUBIC, reducing_gap=3)
    frame[top : top + h, left : left + w] = np.asarray(resized, float) / 255
    return frame


def smooth(shape: tuple[int, int], size: float, rng: np.random.Generator) -> np.ndarray:
    """Random levels from 0 to 1 that change over so many pixels."""
    coarse = [max(2, round(side / size)) for side in shape]
    levels = Image.fromarray(rng.integers(0, 256, coarse).astype(np.uint8))
    return np.asarray(levels.resize(shape[::-1], Image.Resampling.BICUBIC), float) / 255


def lit(what: str, width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """How much light falls where, at most 1: from one side, around a point, or evenly."""
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    if what == "linear":
        angle = rng.uniform(0, 2 * np.pi)
        away = x * np.cos(angle) + y * np.sin(angle)
        away = (away - away.min()) / np.ptp(away)
    elif what == "radial":
        away = np.hypot(x - rng.uniform(0, x.max()), y - rng.uniform(0, y.max()))
        away = (away / away.max()) ** rng.uniform(1, 2)
    else:
        return np.full((height, width), rng.uniform(0.8, 1))
    return 1 - rng.uniform(0.25, 0.65) * away


def encode(picture: Image.Image, rng: np.random.Generator) -> tuple[str, bytes]:
    """The bytes of an image file, PNG or JPEG, and its suffix; some turned, with EXIF saying so."""
    jpeg = picture.mode == "RGB" and rng.random() < 0.65
    options: dict = dict(format="JPEG", quality=int(rng.integers(40, 96))) if jpeg else {}
    if jpeg and rng.random() < 0.4:
        turn = int(rng.integers(2, 9))
        picture = picture.transpose(TURNS[turn])
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = turn
    elif not jpeg and picture.mode == "RGB" and rng.random() < 0.2:
        picture = picture.convert("RGBA")  # opaque
    file = io.BytesIO()
    picture.save(file, **{"format": "PNG", **options})
    return ("jpg" if jpeg else "png"), file.getvalue()


def main() -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("weights", type=Path, help="weights.h5, or a run's folder")
    parser.add_argument("--raw", type=Path, required=True, help="folder of MNIST's four files")
    parser.add_argument("--seed", type=int, default=0, help="which pictures (default: 0, the test)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the pictures there")
    given = parser.parse_args()
    weights = load_weights(given.weights)
    net = load_network(weights)
    arrays = mnist.MNIST.read_folder(given.raw)
    images, labels = (arrays[name] for name in mnist.FILES["test"])
    right, predicted, failed = 0, 0, Counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for photo in photos(images, labels, given.seed):
            path = folder / photo.name
            path.write_bytes(photo.data)
            found = answer(net, weights, path, as_is=False).fields()["prediction"]
            if photo.label is None:
                predicted += found is not None
            else:
                right += found == photo.label
            if found != photo.label:
                failed[("" if photo.label is not None else "empty: ") + photo.kind] += 1
                print(f"{photo.name}: {'no digit' if found is None else found}")
    print(f"seed {given.seed}: right {right} of 200, predicted {predicted} of 30 without a digit")
    for kind, count in failed.items():
        print(f"  {count:3} {kind}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(str(error))
