"""Draw what augmentation makes of the training images: each as it is, and as epochs show it.

python -m dist_vgg.preview augmented.png --rotate 15 --deform 0.03
python -m dist_vgg.preview augmented.png --data data --config mnist-1000
"""

import io
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from dist_vgg.base.command_line import Parser, run_alone
from dist_vgg.base.errors import UserError
from dist_vgg.base.files import check_writable, write_bytes
from dist_vgg.data.augment import Augment
from dist_vgg.data.dataset import load_shard, open_set
from dist_vgg.data.samples import Samples
from dist_vgg.runs.config import TrainConfig
from dist_vgg.runs.options import add_options
from dist_vgg.runs.recipes import read_toml

ROWS = 20  # at most
EPOCHS = 9  # columns after the first
GAP, HEAD = 4, 14  # pixels between images, and for a heading
COLUMN = 48  # pixels that a heading needs
STRENGTHS = [field.name for field in fields(Augment)]  # options that vary images
NAMES = ["data", "seed", *STRENGTHS]  # options of train that this command has as well


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit status."""
    path, config = read_options(argv)
    check_writable("the picture", path)
    folder = Path(config.data)
    samples = one_of_each(load_shard(folder, "train", 0, open_set(folder)))
    epochs = EPOCHS if config.augment else 0
    png = io.BytesIO()
    draw(samples, config.augment, config.seed, epochs).save(png, "PNG")
    write_bytes(path, png.getvalue())
    shown = f"as {epochs} epochs show them" if epochs else "as they are"
    print(f"{path}: {len(samples)} images of {folder}, {shown}")
    if not epochs:
        ways = ", ".join(f"--{name}" for name in STRENGTHS)
        print(f"nothing is varied; give {ways}, or --config with a recipe")
    return 0


def read_options(argv: Sequence[str]) -> tuple[Path, TrainConfig]:
    """The picture to write, and the options of train that say what it shows."""
    parser = Parser(prog="python -m dist_vgg.preview", description=__doc__.split("\n")[0])
    parser.add_argument("picture", metavar="PICTURE.png", type=Path, help="the file to write")
    add_options(parser, NAMES)
    parser.add_argument(
        "--config", metavar="FILE.toml", help="take options of train from a file or recipe"
    )
    options = vars(parser.parse_args(argv))
    path = options["picture"]
    if path.suffix != ".png":
        raise UserError(f"{path}: name a .png file")
    given = read_toml(options["config"]) if options["config"] else {}
    return path, TrainConfig(**{**given, **{k: v for k, v in options.items() if k in NAMES}})


def one_of_each(samples: Samples) -> Samples:
    """The first sample of every class, in the classes' order, but of no more than ROWS."""
    return samples[np.unique(samples.labels, return_index=True)[1][:ROWS]]


def draw(samples: Samples, augment: Augment, seed: int, epochs: int) -> Image.Image:
    """A picture with a row for each sample: as it is, then as each of the first epochs shows it.

    Images of three channels come out in colour, all others as the grey mean of their channels.
    """
    columns = [samples.pixels.astype(np.float32)]
    columns += [augment.draw(samples.pixels, samples.ids, seed, epoch) for epoch in range(epochs)]
    rows, height, width, channels = samples.pixels.shape
    across, down = max(width + GAP, COLUMN), height + GAP
    size = (across * (1 + epochs) + GAP, HEAD + down * rows)
    picture = Image.new("RGB" if channels == 3 else "L", size, "gray")
    pen = ImageDraw.Draw(picture)
    for column, images in enumerate(columns):
        left = across * column + GAP * (column > 0)  # the gap is wider after the first
        heading = f"epoch {column}" if column else "as it is"
        pen.text((left + GAP, 1), heading, fill="white")
        for row, image in enumerate(images):
            values = image if channels == 3 else image.mean(axis=2)
            pixels = Image.fromarray(np.rint(values).astype(np.uint8))
            picture.paste(pixels, (left, HEAD + down * row))
    return picture


if __name__ == "__main__":
    run_alone("dist_vgg.preview", main)
