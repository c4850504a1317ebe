"""Arrays in an npz file of NumPy: train_images, train_labels, test_images and test_labels.

Images are (n, height, width), (n, height, width, 1) or (n, height, width, 3) uint8; labels are
(n,) integers. The file may hold other arrays too. Nothing in it is unpickled, and what a header
announces is compared with what the file can hold before much is unzipped.
"""

import math
import warnings
import zipfile
from pathlib import Path

import numpy as np

from data_prep.idx import check_swelling
from data_prep.idx_files import MAX_BYTES, check_images, to_raw
from data_prep.raw import ORIGINS, Raw
from dist_vgg.base.bounds import MAX_CLASSES
from dist_vgg.base.errors import UserError

PIECE = 1 << 20  # bytes unzipped at a time


def load(path: Path) -> Raw:
    """The data set in an npz file; UserError where it lacks an array or is damaged."""
    if not path.is_file():
        raise UserError(f"--raw {path} is no file; name an npz file")
    images, labels = {}, {}
    try:
        size = path.stat().st_size
        with warnings.catch_warnings(), zipfile.ZipFile(path) as archive:
            warnings.simplefilter("ignore")  # NumPy's, of headers that are oddly written
            for split in ORIGINS:
                images[split] = _as_images(_read(archive, f"{split}_images", path, size), path)
                labels[split] = _as_labels(_read(archive, f"{split}_labels", path, size), path)
    except UserError:
        raise
    except Exception as error:  # whatever zipfile and NumPy stumble over
        raise UserError(f"{path} is no npz file, or damaged; write it anew with numpy.savez") from (
            error
        )
    for split in ORIGINS:
        check_images(images[split], labels[split], f"{path}'s {split} set")
    if images["train"].ndim != images["test"].ndim:
        raise UserError(f"{path} has grey images in one split and colours in the other")
    return to_raw("npz", images, labels, f"--raw {path}")


def _read(archive: zipfile.ZipFile, name: str, path: Path, stored: int) -> np.ndarray:
    """One array of the file, which has so many bytes."""
    called = f"{path}'s {name}"
    if f"{name}.npy" not in archive.namelist():
        raise UserError(f"{path} lacks {name}; it needs train_ and test_images, train_ and "
                        "test_labels")  # fmt: skip
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UserError(f"{called} is compressed in another way than NumPy does")
    if info.file_size > MAX_BYTES:
        raise UserError(f"{called} has more than {MAX_BYTES:,} bytes; use --source images")
    check_swelling(called, min(stored, info.compress_size), info.file_size)
    with archive.open(info) as file:
        if np.lib.format.read_magic(file) != (1, 0):  # later ones are for headers of 64 KB and more
            raise UserError(f"{called} is of another version than NumPy writes for plain arrays")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file, max_header_size=1000)
        if dtype.kind not in "iu":
            raise UserError(f"{called} are {dtype}, not integers")
        size = math.prod(shape) * dtype.itemsize
        data = bytearray()  # grows as bytes come, however many were announced
        while piece := file.read(PIECE):
            data += piece
            if len(data) > size:
                break
    if len(data) != size or min(shape, default=0) < 0:
        raise UserError(f"{called} has another length than its header says")
    flat = np.frombuffer(data, dtype)
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def _as_images(images: np.ndarray, path: Path) -> np.ndarray:
    """Images as (n, height, width) or (n, height, width, 3)."""
    colours = images.shape[3] if images.ndim == 4 else 1
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or colours not in (1, 3):
        shape = " x ".join(map(str, images.shape))
        raise UserError(
            f"{path} has images of {shape} {images.dtype}; give (n, height, width), and 3 at the "
            "end for colours, of uint8"
        )
    return np.ascontiguousarray(images[..., 0] if images.ndim == 4 and colours == 1 else images)


def _as_labels(labels: np.ndarray, path: Path) -> np.ndarray:
    """Labels as (n,), from 0 on."""
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim != 1:
        shape = " x ".join(map(str, labels.shape))
        raise UserError(f"{path} has labels of {shape}; give one integer for each image")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < MAX_CLASSES:
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise UserError(f"{path} has the label {wrong}, outside 0..{MAX_CLASSES - 1}")
    return labels.astype(np.int64)
