"""Pictures in folders, one folder for each class, as torchvision's ImageFolder has them.

    train/CLASS/...    test/CLASS/...    or CLASS/... alone, and a share of each for the test

Classes are in the order of their names. A picture's id is its place among all pictures of its
split, in the order of classes and paths, or among all pictures where one folder holds both splits.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_prep.idx import file_sha256
from data_prep.raw import ORIGINS, Raw, check_classes
from dist_vgg.base.bounds import MAX_CLASSES, MAX_NAME, MAX_NAMES
from dist_vgg.base.errors import UserError
from dist_vgg.data import deal
from dist_vgg.data.pictures import BadPicture, network_pixels, read_image
from dist_vgg.data.samples import label_type

NO_PICTURES = ("Thumbs.db", "desktop.ini")  # what file managers leave behind, with all of ".*"
MAX_DEPTH = 50  # folders in each other below a class's


@dataclass(frozen=True)
class FilePictures:
    """Pictures in files, read when they are asked for."""

    root: Path
    files: tuple[str, ...]  # below the root

    def __len__(self) -> int:
        return len(self.files)

    def pixels(self, row: int, size: int, channels: int, fit: str) -> np.ndarray:
        """One picture as a network sees it; BadPicture, which names the file, for a bad one."""
        path = self.root / self.files[row]
        try:
            return network_pixels(read_image(path), size, channels, fit)
        except BadPicture as error:
            raise BadPicture(f"can't use {shown(path)}: {error.why}", error.why) from error

    def sha256(self) -> str:
        """SHA-256 over the names and the contents of all files."""
        digest = hashlib.sha256()
        # None: the bar shows only on a terminal.
        for name in tqdm(self.files, "looking for changes", unit=" files", disable=None):
            content = b""
            path = self.root / name
            with suppress(OSError):  # a picture that can't be read is told when its turn comes
                content = file_sha256(path).encode() if path.is_file() else b""
            digest.update(os.fsencode(name) + b"\0" + content)
        return digest.hexdigest()


def shown(path: str | Path) -> str:
    """A path on one line, whatever characters it has."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(path))


def load(root: Path, test_share: float | None, seed: int) -> Raw:
    """All pictures below a folder; `test_share` of each class for the test if it holds no splits.

    Raises UserError where the folder is not made up of classes that can be trained on.
    """
    if not root.is_dir():
        raise UserError(f"--raw {shown(root)} is not a folder; name one with a folder per class")
    top = root.resolve()
    if all((root / split).is_dir() for split in ORIGINS):
        if test_share:
            raise UserError(f"--raw {shown(root)} has a test folder; leave out --test-share")
        for split in filter(os.path.islink, (root / name for name in ORIGINS)):
            _check_link(split, top)
        files = {split: _classes(root / split, top) for split in ORIGINS}
        _check_same(root, *files.values())
        names = list(files["train"])
        labels = {split: _labels(found) for split, found in files.items()}
        ids = {split: np.arange(len(y)) for split, y in labels.items()}
        paths = {split: _paths(found, f"{split}/") for split, found in files.items()}
    elif test_share is None:
        raise UserError(
            f"--raw {shown(root)} has no folders train and test; if it has a folder per class, "
            "set a fifth of each aside for the test with --test-share 0.2"
        )
    else:
        found = _classes(root, top)
        names, all_labels, all_paths = list(found), _labels(found), np.array(_paths(found), object)
        ids = _shared(all_labels, test_share, seed)
        labels = {split: all_labels[rows] for split, rows in ids.items()}
        paths = {split: list(all_paths[rows]) for split, rows in ids.items()}
    pictures = {split: FilePictures(root, tuple(found)) for split, found in paths.items()}
    raw = Raw("images", pictures, labels, ids, len(names), tuple(names), 3, "crop")
    check_classes(raw, f"--raw {shown(root)}")
    return raw


def _classes(root: Path, top: Path) -> dict[str, list[str]]:
    """The files of each class, below its folder; both in order of their names."""
    found = {
        entry.name: list(_files(Path(entry.path), top, ""))
        for entry in _entries(root, top)
        if entry.is_dir(follow_symlinks=False)
    }
    wrong = next((name for name in found if not name.isprintable() or len(name) > MAX_NAME), None)
    if wrong is not None:
        raise UserError(f"the class {shown(root / wrong)} has no printable name; rename its folder")
    if len(found) < 2:
        few = "only the class " + shown(next(iter(found))) if found else "no folders of classes"
        raise UserError(f"{shown(root)} has {few}; put pictures into a folder per class")
    if len(found) > MAX_CLASSES:
        raise UserError(
            f"{shown(root)} has {len(found):,} classes; a network has at most {MAX_CLASSES:,}"
        )
    if len(json.dumps(list(found))) > MAX_NAMES:
        raise UserError(
            f"the names of the {len(found)} classes in {shown(root)} take more than "
            f"{MAX_NAMES:,} bytes; give the folders shorter ones"
        )
    return found


def _files(folder: Path, top: Path, below: str) -> Iterator[str]:
    """All files in a folder and the folders in it, by their paths below the class's folder."""
    for entry in _entries(folder, top):
        name = f"{below}{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            if below.count("/") > MAX_DEPTH:
                raise UserError(f"{shown(folder)} lies in more than {MAX_DEPTH} folders")
            yield from _files(Path(entry.path), top, f"{name}/")
        else:
            yield name


def _entries(folder: Path, top: Path) -> list[os.DirEntry[str]]:
    """What a folder holds, in order of name, without hidden files.

    Raises UserError for a link to a folder, and for one that leads out of the folder `top`.
    """
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"can't read the folder {shown(folder)}: {error.strerror}") from error
    found = [e for e in found if not e.name.startswith(".") and e.name not in NO_PICTURES]
    for entry in found:
        if entry.is_symlink():
            _check_link(Path(entry.path), top)
    return found


def _check_link(path: Path, top: Path) -> None:
    """Raise UserError for a link that leads to a folder, or out of the folder `top`."""
    if path.is_dir() or not Path(os.path.realpath(path)).is_relative_to(top):
        where = "to a folder" if path.is_dir() else f"out of {shown(top)}"
        raise UserError(f"{shown(path)} is a link {where}; put a copy in its place")


def _check_same(root: Path, train: dict[str, list[str]], test: dict[str, list[str]]) -> None:
    """Raise UserError where the splits have different classes."""
    for split, other, more in (
        ("train", "test", sorted(train.keys() - test.keys())),
        ("test", "train", sorted(test.keys() - train.keys())),
    ):
        if more:
            others = f" and {len(more) - 1} others" if len(more) > 1 else ""
            raise UserError(
                f"{shown(root / split)} has the class {more[0]}{others}, which "
                f"{shown(root / other)} lacks; both need the same classes"
            )


def _labels(classes: dict[str, list[str]]) -> np.ndarray:
    counts = [len(files) for files in classes.values()]
    return np.repeat(np.arange(len(counts)), counts).astype(label_type(len(counts)))


def _paths(classes: dict[str, list[str]], below: str = "") -> list[str]:
    return [f"{below}{name}/{file}" for name, files in classes.items() for file in files]


def _shared(labels: np.ndarray, share: float, seed: int) -> dict[str, np.ndarray]:
    """The rows of each split, in order: a share of each class, at least one, for the test."""
    order = deal.shuffled(len(labels), seed, "test-share")
    test = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        of_class = order[labels[order] == label]
        test[of_class[: max(1, round(share * len(of_class)))]] = True
    return {"train": np.flatnonzero(~test), "test": np.flatnonzero(test)}
