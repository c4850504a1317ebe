"""Small folders of pictures for tests: a folder for each class, as people have them."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("cat", "dog", "a fish")


def draw(seed: int, width: int = 40, height: int = 36) -> Image.Image:
    """A picture of smooth colours."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def write_classes(
    folder: Path, classes: tuple[str, ...] = CLASSES, count: int = 4, form: str = "png"
) -> Path:
    """So many pictures of each class, in a folder each."""
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            draw(100 * number + index).save(folder / name / f"{index}.{form}")
    return folder


def write_splits(folder: Path, classes: tuple[str, ...] = CLASSES) -> Path:
    """Folders train and test, with four and two pictures of each class."""
    write_classes(folder / "train", classes)
    write_classes(folder / "test", classes, 2, "jpg")
    return folder
