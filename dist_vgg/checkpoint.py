"""A checkpoint is all that a run needs to go on; weights are all that a user needs afterwards.

Both are HDF5 files of one flat vector of parameters:

    checkpoints/step-00000125.h5    params, state/<name>, and `Checkpoint`'s fields
    weights.h5                      params, and `Weights`' fields

An attribute has the SHA-256 of all that; HDF5's own checksums leave out attributes and types.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dist_vgg.errors import UserError
from dist_vgg.files import whole_hdf5

SCHEMA = 1
CHUNK = 1 << 18  # numbers in a checksummed chunk: 1 MiB


@dataclass(frozen=True)
class Checkpoint:
    """A run between two steps. Vectors are flat float32, in layer order."""

    step: int  # steps done
    config: Mapping[str, Any]  # the options of the run
    network: Mapping[str, Any]  # arguments of vgg16() without dropout
    dataset: str  # SHA-256 of the data set
    request: str  # how it was shuffled and cut into shards
    shards: int
    epoch: Mapping[str, Any]  # the unfinished epoch's sums
    params: np.ndarray
    state: Mapping[str, np.ndarray]  # of the optimizer, by name


@dataclass(frozen=True)
class Weights:
    """A trained network and what its input has to be."""

    network: Mapping[str, Any]  # arguments of vgg16() without dropout
    mean: float  # of the training set's pixels, 0..255
    std: float
    source: str  # what it was trained on
    dataset: str  # SHA-256 of the data set
    step: int
    sha256: str  # of the parameters
    params: np.ndarray


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write a checkpoint, whole or not at all; then remove all but the newest `keep`."""
    path = folder / f"step-{checkpoint.step:08d}.h5"
    with whole_hdf5(path, "a checkpoint") as file:
        state = {f"state/{name}": vector for name, vector in checkpoint.state.items()}
        _write(file, "checkpoint", checkpoint, {"params": checkpoint.params, **state})
    # A later checkpoint was damaged, or the run would have gone on from it.
    newest = [found for found in checkpoints(folder) if found <= path][:keep]
    for found in checkpoints(folder):
        if found not in newest:
            found.unlink()
    return path


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, newest first."""
    return sorted(folder.glob("step-????????.h5"), reverse=True)


def load_newest(folder: Path, say: Callable[[str], object]) -> Checkpoint:
    """Read the newest whole checkpoint; a damaged one is passed over with a word.

    Raises UserError where there is none.
    """
    for path in checkpoints(folder):
        try:
            header, vectors = _read(path, "checkpoint")
            params = vectors.pop("params")
            state = {name.removeprefix("state/"): vector for name, vector in vectors.items()}
            return Checkpoint(**header, params=params, state=state)
        except (OSError, RuntimeError, KeyError, TypeError, ValueError):
            say(f"checkpoint {path} is damaged or of another version; trying the one before")
    raise UserError(f"no whole checkpoint in {folder}; start a new run without --resume")


def save_weights(path: Path, weights: Weights) -> None:
    """Write trained weights, whole or not at all."""
    with whole_hdf5(path, "the weights") as file:
        _write(file, "weights", weights, {"params": weights.params})


def load_weights(path: Path) -> Weights:
    """Read trained weights; a run's folder stands for its weights.h5.

    Raises UserError for a file that is missing, damaged or something else.
    """
    path = path / "weights.h5" if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"no weights {path}; a finished run has them in its folder as weights.h5")
    try:
        header, vectors = _read(path, "weights")
        return Weights(**header, params=vectors["params"])
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0] if isinstance(error, ValueError) else "damaged"
        raise UserError(f"{path} can't be used as weights ({reason}); name another file") from error


def _write(
    file: h5py.File, kind: str, content: Checkpoint | Weights, vectors: Mapping[str, np.ndarray]
) -> None:
    fields = {k: v for k, v in vars(content).items() if k not in ("params", "state")}
    header = json.dumps(fields)
    file.attrs["schema"] = SCHEMA
    file.attrs["kind"] = kind
    file.attrs["header"] = header
    file.attrs["sha256"] = _sha256(header, vectors)
    for name, vector in vectors.items():
        chunks = (min(CHUNK, len(vector)),)
        file.create_dataset(name, data=vector, chunks=chunks, fletcher32=True)


def _sha256(header: str, vectors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(header.encode())
    for name in sorted(vectors):
        digest.update(f"{name} {vectors[name].dtype} {vectors[name].shape}".encode())
        digest.update(vectors[name].data)
    return digest.hexdigest()


def _read(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and vectors of a file, after verifying that they are what was written."""
    vectors: dict[str, np.ndarray] = {}

    def take(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset):
            vectors[name] = item[...]

    with h5py.File(path, "r") as file:
        found = (file.attrs.get("kind"), file.attrs.get("schema"))
        if found != (kind, SCHEMA):
            raise ValueError(f"it is {found[0] or 'no file of ours'}, schema {found[1]}")
        header, sha256 = file.attrs["header"], file.attrs["sha256"]
        file.visititems(take)
    if _sha256(header, vectors) != sha256:
        raise ValueError("its content is not what was written")
    return json.loads(header), vectors
