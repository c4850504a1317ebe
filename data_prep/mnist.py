"""MNIST is four IDX files: their names, mirrors and hashes, and how they are read and verified.

The data set is by Y. LeCun, C. Cortes and C. Burges, "The MNIST database of handwritten digits".
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from data_prep.idx import idx_sha256, read_idx
from data_prep.raw import CLASSES, Arrays, Raw
from dist_vgg.base.errors import UserError

# The files of a split: its images and its labels.
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
NAMES = [name for pair in FILES.values() for name in pair]

# Hashes of the uncompressed files: mirrors compress the same content in different ways.
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://raw.githubusercontent.com/fgnt/mnist/master/",
)


def find_file(folder: Path, name: str) -> Path | None:
    """An IDX file, gzipped or not; some archives spell its name with a dot."""
    for stem in (name, name.replace("-idx", ".idx")):
        for path in (folder / stem, folder / f"{stem}.gz"):
            if path.is_file():
                return path
    return None


def read_folder(folder: Path) -> Arrays:
    """Read and verify the four files in the folder of --raw, by name."""
    if not folder.is_dir():
        raise UserError(f"--raw {folder} is not a folder; leave out --raw to download MNIST")
    paths = {name: path for name in NAMES if (path := find_file(folder, name))}
    missing = [f"{name}[.gz]" for name in NAMES if name not in paths]
    if missing:
        raise UserError(
            f"--raw {folder} lacks {', '.join(missing)}; copy what is missing there, "
            "or leave out --raw to download it"
        )
    try:
        arrays = {name: read_idx(path, _ndim(name)) for name, path in paths.items()}
        for images, labels in FILES.values():
            _check_pair(arrays[images], paths[images], arrays[labels], paths[labels])
        for name, path in paths.items():
            _check_content(name, arrays[name], str(path))
    except UserError as error:
        raise UserError(f"{error}; copy it anew, or leave out --raw to download it") from error
    return arrays


def _ndim(name: str) -> int:
    return 3 if "idx3" in name else 1


def read_verified(path: Path, name: str, called: str) -> np.ndarray:
    """Read one of the four files; UserError, which names it as `called`, for another content."""
    array = read_idx(path, _ndim(name), called)
    _check_content(name, array, called)
    return array


def _check_content(name: str, array: np.ndarray, called: str) -> None:
    if idx_sha256(array) != SHA256[name]:
        raise UserError(f"{called} is not MNIST's {name}: its content has another SHA-256")


def _check_pair(images: np.ndarray, called: Path, labels: np.ndarray, of: Path) -> None:
    if len(images) != len(labels):
        raise UserError(
            f"{called} has {len(images):,} images, but {of.name} has {len(labels):,} labels"
        )
    if len(labels) and labels.max() >= CLASSES:
        row = int(labels.argmax())
        raise UserError(f"{of} has the label {labels[row]} at {row}, outside 0..{CLASSES - 1}")


def to_raw(arrays: Mapping[str, np.ndarray]) -> Raw:
    """The data set that the arrays of the four files make up."""
    return Raw(
        "mnist",
        {split: arrays[images] for split, (images, _) in FILES.items()},
        {split: arrays[labels] for split, (_, labels) in FILES.items()},
        {split: np.arange(len(arrays[labels])) for split, (_, labels) in FILES.items()},
    )
