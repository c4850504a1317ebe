"""A set of four IDX files, as MNIST's: their names and hashes, how they are read and verified."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.idx import idx_sha256, read_idx
from data_prep.raw import CLASSES, ArrayPictures, Arrays, Raw
from dist_vgg.base.errors import UserError

# The files of a split: its images and its labels.
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
NAMES = [name for pair in FILES.values() for name in pair]


@dataclass(frozen=True)
class IdxSet:
    """A published set of four IDX files with ten classes."""

    source: str  # its name as a source
    title: str  # what messages call it
    mirrors: tuple[str, ...]
    # Of the uncompressed files, by name: mirrors compress the same content in different ways.
    sha256: Mapping[str, str]
    class_names: tuple[str, ...] = ()
    preparation: str = "digit"
    names: tuple[str, ...] = tuple(NAMES)

    def file_name(self, name: str) -> str:
        """The file on a mirror."""
        return f"{name}.gz"

    def find_file(self, folder: Path, name: str) -> Path | None:
        """The file in a folder, gzipped or not."""
        return find_file(folder, name)

    def read_verified(self, path: Path, name: str, called: str) -> np.ndarray:
        """Read one of the four files; UserError, which calls it `called`, for another content."""
        array = read_idx(path, _ndim(name), called)
        self._check_content(name, array, called)
        return array

    def read_folder(self, folder: Path) -> Arrays:
        """Read and verify the four files in the folder of --raw, by name."""
        if not folder.is_dir():
            raise UserError(
                f"--raw {folder} is not a folder; leave out --raw to download {self.title}"
            )
        paths = {name: path for name in NAMES if (path := find_file(folder, name))}
        if not paths and any(entry.is_dir() for entry in folder.iterdir()):
            raise UserError(
                f"--raw {folder} has none of {self.title}'s four files; if it has pictures in a "
                "folder per class, add --source images"
            )
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
                self._check_content(name, arrays[name], str(path))
        except UserError as error:
            raise UserError(f"{error}; copy it anew, or leave out --raw to download it") from error
        return arrays

    def to_raw(self, arrays: Mapping[str, np.ndarray]) -> Raw:
        """The data set that the arrays of the four files make up."""
        return Raw(
            self.source,
            {split: ArrayPictures(arrays[images]) for split, (images, _) in FILES.items()},
            {split: arrays[labels] for split, (_, labels) in FILES.items()},
            {split: np.arange(len(arrays[labels])) for split, (_, labels) in FILES.items()},
            class_names=self.class_names,
            preparation=self.preparation,
        )

    def _check_content(self, name: str, array: np.ndarray, called: str) -> None:
        if idx_sha256(array) != self.sha256[name]:
            raise UserError(
                f"{called} is not {self.title}'s {name}: its content has another SHA-256"
            )


def find_file(folder: Path, name: str) -> Path | None:
    """An IDX file, gzipped or not; some archives spell its name with a dot."""
    for stem in (name, name.replace("-idx", ".idx")):
        for path in (folder / stem, folder / f"{stem}.gz"):
            if path.is_file():
                return path
    return None


def _ndim(name: str) -> int:
    return 3 if "idx3" in name else 1


def _check_pair(images: np.ndarray, called: Path, labels: np.ndarray, of: Path) -> None:
    if len(images) != len(labels):
        raise UserError(
            f"{called} has {len(images):,} images, but {of.name} has {len(labels):,} labels"
        )
    if len(labels) and labels.max() >= CLASSES:
        row = int(labels.argmax())
        raise UserError(f"{of} has the label {labels[row]} at {row}, outside 0..{CLASSES - 1}")
