"""Weights are all that a user needs of a trained network: its parameters, and what its input is.

    weights.h5                  params, and `Weights`' fields
    average.h5, best.h5         likewise; the moving average, and the best that was seen

The fields are JSON in the attribute `header`, and a digest is over all (base/files.py). An exported
file may hold the parameters in fewer bytes: params in float16, or precision.py's three vectors.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dist_vgg.base import bounds
from dist_vgg.base.bounds import Rule, integer, number, several, sha256, text
from dist_vgg.base.errors import UserError
from dist_vgg.base.files import NotWhole, open_hdf5, whole_hdf5
from dist_vgg.state.precision import PRECISIONS, Layout, join, split, valid_layout

STEPS = 2**53
MAX_LAYERS = 1000
Check = Callable[[str, h5py.Dataset], object]  # raises where a vector is not what it should be
NETWORK: dict[str, Rule] = dict(
    size=lambda value: integer(32, bounds.MAX_SIZE)(value) and value % 32 == 0,
    channels=integer(1, bounds.MAX_CHANNELS),
    classes=integer(1, bounds.MAX_CLASSES),
    width=number(0, 4, open_low=True),
    name=text,
)


def network(value: Any) -> bool:
    """Arguments of vgg() that a machine can serve; earlier versions knew one network, VGG16."""
    return type(value) is dict and not bounds.wrong({"name": "vgg16", **value}, NETWORK)


WEIGHTS: dict[str, Rule] = dict(
    network=network,
    source=text,
    dataset=sha256,
    step=integer(0, STEPS),
    sha256=sha256,
    kernels=text,
    kernels_version=integer(1, STEPS),
    precision=lambda value: value in PRECISIONS,
    made_from=lambda value: value == "" or sha256(value),
    layout=several(valid_layout, MAX_LAYERS),
    **bounds.IMAGES,
)
# What training writes is float32, and says nothing of precision.
FLOAT32: dict[str, Any] = dict(precision="float32", made_from="", layout=())
# Earlier versions did not name the kernels, and had one version of them; all knew digits only.
ABSENT: dict[str, Any] = dict(kernels="numpy", kernels_version=1, **FLOAT32, **bounds.ABSENT_IMAGES)
# The vectors of a file by its precision, and their types.
VECTORS = {
    "float32": dict(params="<f4"),
    "float16": dict(params="<f2"),
    "int8": dict(levels="|i1", scales="<f4", biases="<f4"),
}


@dataclass(frozen=True)
class Weights:
    """A trained network and what its input has to be."""

    network: Mapping[str, Any]  # arguments of vgg() without dropout
    mean: tuple[float, ...]  # of the training set's pixels, 0..255, by channel or of all
    std: tuple[float, ...]
    source: str  # what it was trained on
    dataset: str  # SHA-256 of the data set
    step: int
    sha256: str  # of the parameters
    params: np.ndarray  # flat float32 in layer order, whatever the precision
    kernels: str = "numpy"  # what they were trained with
    kernels_version: int = 1  # of the bits of these kernels
    class_names: tuple[str, ...] = ()  # of every class; none where they are numbers only
    preparation: str = "digit"  # of a picture: one of base/bounds.py's PREPARATIONS
    precision: str = "float32"  # to which the parameters are rounded
    made_from: str = ""  # SHA-256 of the float32 parameters that were rounded
    layout: Layout = ()  # of int8: inputs and outputs of each layer


def save_weights(path: Path, weights: Weights, check: Check | None = None) -> None:
    """Write trained weights, whole or not at all; `check` as for a checkpoint."""
    fields = {name: value for name, value in vars(weights).items() if name != "params"}
    if weights.precision == "int8":
        vectors = split(weights.params, weights.layout)
    else:
        vectors = {"params": weights.params}
    if weights.precision == "float32":
        for name in FLOAT32:
            del fields[name]
    with written_hdf5(path, "the weights", check) as file:
        bounds.write_header(file, "weights", fields)
        for name, dtype in VECTORS[weights.precision].items():
            file.create_dataset(name, data=vectors[name], dtype=dtype)


def weights_in(path: Path) -> dict[str, Path]:
    """The files of weights that a run's folder has, by what they are; "weights" first.

    A file stands for itself, as "weights".
    """
    others = {name: path / f"{name}.h5" for name in ("average", "best")}
    there = {name: file for name, file in others.items() if file.is_file()}
    return {"weights": path / "weights.h5", **there} if path.is_dir() else {"weights": path}


def load_weights(path: str | Path) -> Weights:
    """Read trained weights of any precision; a run's folder stands for its weights.h5.

    Raises UserError for a file that is missing, damaged or something else.
    """
    path = Path(path)
    try:
        path = path / "weights.h5" if path.is_dir() else path
        return _read(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"no weights {path}; a finished run has them in its folder as weights.h5"
        ) from error
    except bounds.UNREADABLE as error:
        reason = str(error) if isinstance(error, NotWhole) else None
        reason = reason or getattr(error, "strerror", None) or "damaged"
        raise UserError(f"{path} can't be used as weights ({reason}); name another file") from error


def written_hdf5(
    path: Path, what: str, check: Check | None = None
) -> AbstractContextManager[h5py.File]:
    """An HDF5 file to write, whole or not at all.

    Before it counts, `check` gets each vector by its name, as it is read back from the disk.
    """

    def check_all(file: h5py.File) -> None:
        assert check
        for name, vector in file.items():
            if isinstance(vector, h5py.Dataset):
                check(name, vector)
        for name, vector in file.get("state", {}).items():
            check(name, vector)

    return whole_hdf5(path, what, check_all if check else None)


def _read(path: Path) -> Weights:
    """The weights in a file; raises one of bounds.UNREADABLE."""
    with open_hdf5(path) as file:
        header = bounds.read_header(file, "weights", WEIGHTS, ABSENT)
        root = bounds.root(file)
        kinds = VECTORS[header["precision"]]
        if bounds.members(root) != sorted(kinds):
            raise NotWhole("it holds other things than it should")
        room = file.id.get_filesize()
        vectors = {name: bounds.read_array(root, name, kinds[name], 1, room) for name in kinds}
    bounds.check_images(header, header["network"]["channels"], header["network"]["classes"])
    if header["precision"] == "int8":
        params = join(vectors, header["layout"])
    else:
        params = vectors["params"].astype(np.float32, copy=False)
    return Weights(**header, params=params)
