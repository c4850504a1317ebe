"""Any four IDX files: grey images of any size up to 1,024 pixels a side, and their labels."""

from pathlib import Path

import numpy as np

from data_prep.idx import read_idx
from data_prep.idx_set import FILES
from data_prep.raw import ArrayPictures, Raw, check_classes
from dist_vgg.base.bounds import MAX_CLASSES, MAX_SIZE
from dist_vgg.base.errors import UserError
from dist_vgg.data.samples import label_type

MAX_BYTES = 2 << 30  # of a file; they are read into memory


def load(folder: Path) -> Raw:
    """The data set in a folder's four IDX files, which are named as MNIST's, or end so."""
    if not folder.is_dir():
        raise UserError(f"--raw {folder} is not a folder; name the one with the four IDX files")
    images, labels = {}, {}
    for split, (of_images, of_labels) in FILES.items():
        path, other = _find(folder, of_images), _find(folder, of_labels)
        images[split] = read_idx(path, 3, most=MAX_BYTES)
        labels[split] = read_idx(other, 1, most=MAX_BYTES)
        check_images(images[split], labels[split], str(path))
    return to_raw("idx", images, labels, f"--raw {folder}")


def check_images(images: np.ndarray, labels: np.ndarray, called: str) -> None:
    """Raise UserError where images of a file can't be used, or are not as many as labels."""
    if len(images) != len(labels):
        raise UserError(f"{called} has {len(images):,} images, but {len(labels):,} labels")
    if not 1 <= min(images.shape[1:3]) <= max(images.shape[1:3]) <= MAX_SIZE:
        sides = "x".join(map(str, images.shape[1:3]))
        raise UserError(f"{called} has images of {sides} pixels; a side has from 1 to {MAX_SIZE:,}")
    if len(labels) and labels.max() >= MAX_CLASSES:
        raise UserError(f"{called} has the label {labels.max()}; they go to {MAX_CLASSES - 1} only")


def to_raw(
    source: str, images: dict[str, np.ndarray], labels: dict[str, np.ndarray], called: str
) -> Raw:
    """The data set of arrays by split, with as many classes as its labels tell."""
    classes = 1 + max(int(y.max(initial=0)) for y in labels.values())
    raw = Raw(
        source,
        {split: ArrayPictures(array) for split, array in images.items()},
        {split: y.astype(label_type(classes)) for split, y in labels.items()},
        {split: np.arange(len(y)) for split, y in labels.items()},
        classes,
        channels=3 if images["train"].ndim == 4 else 1,
        preparation="crop",
    )
    check_classes(raw, called)
    return raw


def _find(folder: Path, name: str) -> Path:
    """The one file whose name ends as that of MNIST's, gzipped or not."""
    endings = {name, name.replace("-idx", ".idx"), name.replace("t10k", "test")}
    endings |= {f"{ending}.gz" for ending in endings}
    found = sorted(path for path in folder.iterdir() if path.name.endswith(tuple(endings)))
    if len(found) != 1:
        have = "several files" if found else "no file"
        raise UserError(f"--raw {folder} has {have} with a name that ends in {name}[.gz]")
    return found[0]
