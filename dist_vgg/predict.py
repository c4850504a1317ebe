"""Predict the class of image files with trained weights.

python -m dist_vgg.predict digit.png
python -m dist_vgg.predict runs/NAME digit.png photo.jpg
python -m dist_vgg.predict runs/NAME photo.jpg --show seen.png
python -m dist_vgg.predict runs/NAME *.png --json
"""

import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dist_vgg.base.command_line import Parser, run_alone, tell
from dist_vgg.base.errors import UserError
from dist_vgg.base.files import check_writable, write_bytes
from dist_vgg.data.contact_sheet import Panel, contact_sheet, fit
from dist_vgg.data.pictures import named_as_picture, prepared, silent
from dist_vgg.data.samples import normalise
from dist_vgg.formats.trained import SHIPPED, is_trained, load_network, read_trained, takes_pictures
from dist_vgg.kernels.sets import (
    AUTO,
    CHOICES,
    HELP,
    OWN,
    PRECISION_HELP,
    PRECISIONS,
    set_for,
)
from dist_vgg.network.sequential import Sequential
from dist_vgg.network.vgg import VGG16
from dist_vgg.state.weights import Weights

NO_DIGIT = "no digit found"
STARTS = (b"dist_vgg ", b"\x89HDF\r\n\x1a\n")  # of files of weights, whatever their names


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit status."""
    options = own_parser().parse_intermixed_args(argv)  # images may stand behind options
    check_show(options.show)
    path, images = split(options.paths)
    weights = load_known(path or SHIPPED)
    net = load_network(weights, set_for(weights.kernels, options.kernels, options.precision))
    if not path:
        tell(f"dist_vgg.predict: weights: {summary(SHIPPED, weights)}")
    coming = (answer(net, weights, path, options.as_is) for path in images)
    answers = report(coming, options.json)
    if options.show:
        write_png(options.show, contact_sheet([panel(each) for each in answers]))
    return UserError.status if any(each.error for each in answers) else 0


def own_parser() -> Parser:
    """The command line of `python -m dist_vgg.predict`."""
    parser = Parser(prog="python -m dist_vgg.predict", description=__doc__.split("\n")[0])
    parser.usage = "%(prog)s [options] [WEIGHTS] IMAGE [IMAGE ...]"
    parser.add_argument(
        "paths", metavar="[WEIGHTS] IMAGE", type=Path, nargs="+",
        help="weights: a run's folder or a file of weights (default: digits.h5, which is installed "
        "with the package); then images: one digit in each, or whatever the network was trained "
        "on; a file that can't be read is reported, the others are predicted, and the exit status "
        "is 2",
    )  # fmt: skip
    parser.add_argument(
        "--as-is",
        action="store_true",
        help="only resize; don't look for a digit as MNIST has it, nor cut or pad to a square",
    )
    parser.add_argument(
        "--show", type=Path, metavar="FILE.png",
        help="draw each image beside what the network sees of it",
    )  # fmt: skip
    parser.add_argument(
        "--json", action="store_true",
        help="print a JSON array with an object for each image: image (the path), prediction and "
        "probabilities (one for each class), class (the name, where classes have names), all null "
        "where no digit was found or the file can't be read, and then error says why",
    )  # fmt: skip
    parser.add_argument("--kernels", choices=CHOICES, default=AUTO, help=f"{HELP} (default: auto)")
    parser.add_argument("--precision", choices=PRECISIONS, default=OWN, help=PRECISION_HELP)
    return parser


def check_show(path: Path | None) -> None:
    """Raise UserError, before any work, where --show could not be written."""
    if path:
        if path.suffix != ".png":
            raise UserError(f"--show {path}: name a .png file")
        check_writable("--show", path)


def split(paths: Sequence[Path]) -> tuple[Path | None, Sequence[Path]]:
    """The weights, None where the first path is not meant as such, and the images.

    UserError where there is no image.
    """
    first, *others = paths
    if not means_weights(first):
        return None, paths
    if not others and first.exists():
        raise UserError(f"{first} is no picture but weights; name the pictures behind it")
    return first, others


def means_weights(path: Path) -> bool:
    """Whether a path is meant as weights: by its name or first bytes.

    What is not there is meant so, unless it has the name of a picture.
    """
    if is_trained(path):
        return True
    if path.is_file() and os.access(path, os.R_OK):
        with path.open("rb") as file:
            return file.read(16).startswith(STARTS)
    return not path.exists() and not named_as_picture(path)


def summary(path: Path, weights: Weights) -> str:
    """The file and the network in it, in words."""
    network = {"name": VGG16, **weights.network}
    return (
        f"{path} ({network['name']} of width {network['width']:g}, trained on {weights.source}, "
        f"{weights.precision}, parameters {weights.sha256[:16]})"
    )


def load_known(path: Path) -> Weights:
    """Read weights; UserError where predict can't make their images of a picture."""
    weights = read_trained(path)
    if not takes_pictures(weights):
        raise UserError(
            f"{path} is for images of several channels and doesn't tell how they are made of a "
            "picture; predict takes what data_prep has prepared"
        )
    return weights


@dataclass(frozen=True)
class Answer:
    """What was found in an image file."""

    path: Path
    picture: Image.Image | None = None  # as it was given, small enough for --show
    frame: Image.Image | None = None  # the network's input; None where there is no digit
    probabilities: np.ndarray | None = None  # (classes,), where the network got a frame
    error: str = ""  # why the file could not be read
    names: tuple[str, ...] = ()  # of the classes; none where they are numbers only

    def __str__(self) -> str:
        """The words that follow the path."""
        if self.error or self.probabilities is None:
            return self.error or NO_DIGIT
        ranking = np.argsort(-self.probabilities)
        names = self.names or range(len(ranking))
        shown = ", ".join(f"{names[k]} {self.probabilities[k]:.1%}" for k in ranking[:3])
        return f"{names[ranking[0]]}   ({shown})"

    def fields(self) -> dict[str, Any]:
        """What --json prints."""
        return {
            "image": str(self.path),
            **prediction(self.probabilities, self.names),
            **({"error": self.error} if self.error else {}),
        }


def prediction(p: np.ndarray | None, names: Sequence[str]) -> dict[str, Any]:
    """What is said of an image in JSON; all null where it has no probabilities."""
    best = None if p is None else int(p.argmax())
    return {
        "prediction": best,
        **({"class": None if best is None else names[best]} if names else {}),
        "probabilities": None if p is None else p.tolist(),
    }


def answer(net: Sequential, weights: Weights, path: Path, as_is: bool) -> Answer:
    """Read an image file, make of it what the network was trained on, and let that name it.

    One image at a time, so that its probabilities do not depend on the others.
    """
    names, network = weights.class_names, weights.network
    try:
        with silent():
            picture, pixels = prepared(
                path, weights.preparation, network["size"], network["channels"], as_is
            )
    except UserError as error:
        return Answer(path, error=str(error), names=names)
    if pixels is None:
        return Answer(path, fit(picture), names=names)
    x = normalise(pixels[None], weights.mean, weights.std)
    (p,) = net.ops.softmax(net.forward(x))
    frame = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    return Answer(path, fit(picture), frame, p, names=names)


def report(answers: Iterable[Answer], as_json: bool) -> list[Answer]:
    """Print each answer as it comes, or all as JSON at the end; bad files go to stderr."""
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


def panel(answer: Answer) -> Panel:
    """What --show draws of an answer: the picture beside the network's input."""
    words = "can't be read" if answer.error else str(answer)
    return Panel(answer.picture, answer.frame, (answer.path.name, words))


def write_png(path: Path, image: Image.Image) -> None:
    """Write an image that is either whole or not there."""
    png = io.BytesIO()
    image.save(png, "PNG")
    write_bytes(path, png.getvalue())


if __name__ == "__main__":
    run_alone("dist_vgg.predict", main)
