"""Predict the class of image files with trained weights.

python -m dist_vgg.predict runs/NAME digit.png photo.jpg
python -m dist_vgg.predict runs/NAME photo.jpg --show seen.png
python -m dist_vgg.predict runs/NAME *.png --json
"""

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from dist_vgg.base.command_line import Parser, run_alone, tell
from dist_vgg.base.errors import UserError
from dist_vgg.base.files import check_writable, write_bytes
from dist_vgg.data.digit import like_mnist
from dist_vgg.data.pictures import light_on_dark, read_picture
from dist_vgg.data.samples import normalise
from dist_vgg.kernels import reference as F
from dist_vgg.network.layers import Sequential
from dist_vgg.state.checkpoint import Weights, load_weights
from dist_vgg.training.pretrained import load_network

NO_DIGIT = "no digit found"
CELL, GAP, LINE = 128, 8, 13  # of --show: pixels of a picture, between pictures, and of a line
COLUMNS = 3


@dataclass(frozen=True)
class Answer:
    """What became of an image file."""

    path: Path
    picture: Image.Image | None = None  # as it was given, no larger than a cell of --show
    frame: Image.Image | None = None  # what the network gets; None where there is no digit
    probabilities: np.ndarray | None = None  # (classes,), where the network got a frame
    error: str = ""  # why the file could not be read

    def __str__(self) -> str:
        """The words that follow the path."""
        if self.error or self.probabilities is None:
            return self.error or NO_DIGIT
        ranking = np.argsort(-self.probabilities)
        shown = ", ".join(f"{k} {self.probabilities[k]:.1%}" for k in ranking[:3])
        return f"{ranking[0]}   ({shown})"

    def fields(self) -> dict[str, Any]:
        """What --json tells."""
        p = self.probabilities
        return {
            "image": str(self.path),
            "prediction": None if p is None else int(p.argmax()),
            "probabilities": None if p is None else p.tolist(),
            **({"error": self.error} if self.error else {}),
        }


def answer(net: Sequential, weights: Weights, path: Path, as_is: bool) -> Answer:
    """Read an image file, find its digit and have the network name it.

    One by one, so that an image's numbers don't depend on its company.
    """
    try:
        picture = read_picture(path)
    except UserError as error:
        return Answer(path, error=str(error))
    grey = light_on_dark(picture)
    small = fitted(picture)
    digit = grey if as_is else like_mnist(grey)
    if digit is None:
        return Answer(path, small)
    side = weights.network["size"]
    # The filter with which data_prep enlarged the training images.
    frame = digit.resize((side, side), Image.Resampling.BICUBIC)
    x = normalise(np.asarray(frame)[None, :, :, None], weights.mean, weights.std)
    (p,) = F.softmax(net.forward(x))
    return Answer(path, small, frame, p)


def fitted(
    image: Image.Image, resampling: Image.Resampling = Image.Resampling.BICUBIC
) -> Image.Image:
    """An image as large as a cell of --show takes; one of 1,000 to 3 keeps a pixel's height."""
    scale = CELL / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), resampling)


def draw(answers: Sequence[Answer]) -> Image.Image:
    """A picture of what the network sees: each image beside its frame, with the answer below."""
    columns = min(COLUMNS, len(answers))
    across, down = 2 * (CELL + GAP) + GAP, CELL + 2 * LINE + 2 * GAP
    size = across * columns + GAP, down * -(-len(answers) // columns) + GAP
    sheet = Image.new("RGB", size, (64, 64, 64))
    pen = ImageDraw.Draw(sheet)
    for index, shown in enumerate(answers):
        left, top = index % columns * across + GAP, index // columns * down + GAP
        for place, image in enumerate((shown.picture, shown.frame)):
            x = left + place * (CELL + GAP)
            pen.rectangle((x, top, x + CELL - 1, top + CELL - 1), outline=(96, 96, 96))
            if image:
                shrunk = fitted(image, Image.Resampling.NEAREST)
                middle = (CELL - shrunk.width) // 2, (CELL - shrunk.height) // 2
                sheet.paste(shrunk, (x + middle[0], top + middle[1]))
        words = "can't be read" if shown.error else str(shown)
        for line, text in enumerate((shown.path.name, words)):
            plain = text.encode("ascii", "replace").decode()  # what every font has
            room = (across - GAP) // 6
            pen.text((left, top + CELL + 2 + LINE * line), plain[:room], fill="white")
    return sheet


def report(answers: Iterable[Answer], as_json: bool) -> list[Answer]:
    """Print the answers as they come, or all as JSON in the end; bad files go to stderr."""
    told = []
    for each in answers:
        told.append(each)
        if each.error:
            tell(f"dist_vgg.predict: error: {each.error}")
        elif not as_json:
            print(f"{each.path}: {each}", flush=True)
    if as_json:
        print(json.dumps([each.fields() for each in told], indent=2))
    return told


def own_parser() -> Parser:
    """The command line of `python -m dist_vgg.predict`."""
    parser = Parser(prog="python -m dist_vgg.predict", description=__doc__.split("\n")[0])
    parser.add_argument(
        "weights", metavar="WEIGHTS", type=Path, help="weights.h5, or a run's folder"
    )
    parser.add_argument(
        "images", metavar="IMAGE", type=Path, nargs="+",
        help="one digit in each; a file that can't be read is told, the others are predicted, and "
        "the exit status is 2",
    )  # fmt: skip
    parser.add_argument(
        "--as-is", action="store_true", help="only resize; don't look for a digit as MNIST has it"
    )
    parser.add_argument(
        "--show", type=Path, metavar="FILE.png",
        help="draw each image beside what the network sees of it",
    )  # fmt: skip
    parser.add_argument(
        "--json", action="store_true",
        help="print a JSON array with an object for each image: image (the path), prediction and "
        "probabilities (a list with one for each class), both null where no digit was found or "
        "the file can't be read, and then error says why",
    )  # fmt: skip
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit status."""
    options = own_parser().parse_args(argv)
    if options.show:
        if options.show.suffix != ".png":
            raise UserError(f"--show {options.show}: name a .png file")
        check_writable("--show", options.show)
    weights = load_weights(options.weights)
    if weights.network["channels"] != 1:
        raise UserError(f"{options.weights} is for images of several channels; predict takes grey")
    net = load_network(weights)
    coming = (answer(net, weights, path, options.as_is) for path in options.images)
    answers = report(coming, options.json)
    if options.show:
        png = io.BytesIO()
        draw(answers).save(png, "PNG")
        write_bytes(options.show, png.getvalue())
    return UserError.status if any(each.error for each in answers) else 0


if __name__ == "__main__":
    run_alone("dist_vgg.predict", main)
