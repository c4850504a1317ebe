"""A checkpoint is all that a run needs to go on; weights are all that a user needs afterwards.

Both are HDF5 files of one flat vector of parameters:

    checkpoints/step-00000125.h5    params, state/<name>, and `Checkpoint`'s fields
    weights.h5                      params, and `Weights`' fields
    average.h5, best.h5             likewise; the moving average, and the best that was seen

Each has its other fields as JSON in the attribute `header`, and a digest over all (base/files.py).
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dist_vgg.base import bounds
from dist_vgg.base.bounds import Rule, integer, mapping, number, sha256, text
from dist_vgg.base.errors import UserError
from dist_vgg.base.files import NotWhole, open_hdf5, whole_hdf5

STEPS = 2**53
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


CHECKPOINT: dict[str, Rule] = dict(
    step=integer(0, STEPS),
    config=mapping(bounds.option),
    network=network,
    dataset=sha256,
    request=text,
    shards=integer(1, bounds.MAX_SHARDS),
    epoch=mapping(number(0, STEPS)),
    best=mapping(number(0, STEPS)),
    kernels_version=integer(1, STEPS),
)
WEIGHTS: dict[str, Rule] = dict(
    network=network,
    source=text,
    dataset=sha256,
    step=integer(0, STEPS),
    sha256=sha256,
    kernels=text,
    kernels_version=integer(1, STEPS),
    **bounds.IMAGES,
)
# Earlier versions did not name the kernels, and had one version of them; all knew digits only.
ABSENT: dict[str, dict[str, Any]] = {
    "checkpoint": dict(kernels_version=1),
    "weights": dict(kernels="numpy", kernels_version=1, **bounds.ABSENT_IMAGES),
}


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
    best: Mapping[str, Any]  # the best score on held-out images, and how long ago it was
    params: np.ndarray
    state: Mapping[str, np.ndarray]  # of the optimizer, by name
    kernels_version: int = 1  # of the bits of the kernels that `config` names


@dataclass(frozen=True)
class Weights:
    """A trained network and what its input has to be."""

    network: Mapping[str, Any]  # arguments of vgg16() without dropout
    mean: tuple[float, ...]  # of the training set's pixels, 0..255, by channel or of all
    std: tuple[float, ...]
    source: str  # what it was trained on
    dataset: str  # SHA-256 of the data set
    step: int
    sha256: str  # of the parameters
    params: np.ndarray
    kernels: str = "numpy"  # what they were trained with
    kernels_version: int = 1  # of the bits of these kernels
    class_names: tuple[str, ...] = ()  # of every class; none where they are numbers only
    preparation: str = "digit"  # of a picture: one of base/bounds.py's PREPARATIONS


def save_checkpoint(
    folder: Path, checkpoint: Checkpoint, keep: int, check: Check | None = None
) -> Path:
    """Write a checkpoint, whole or not at all; then remove all but the newest `keep`.

    Before it counts, `check` gets each vector by its name, as it is read back from the disk.
    """
    path = folder / f"step-{checkpoint.step:08d}.h5"
    with whole_hdf5(path, "a checkpoint", _checked(check)) as file:
        state = {f"state/{name}": vector for name, vector in checkpoint.state.items()}
        _write(file, "checkpoint", checkpoint, {"params": checkpoint.params, **state})
    # The new one has been read back by now, so an older one may go. A later one was damaged,
    # or the run would have gone on from it.
    newest = [found for found in checkpoints(folder) if found <= path][:keep]
    for found in checkpoints(folder):
        if found not in newest:
            with suppress(OSError):  # one too many does no harm
                found.unlink()
    return path


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, newest first."""
    return sorted(folder.glob("step-" + 8 * "[0-9]" + ".h5"), reverse=True)


def step_of(path: Path) -> int:
    """The step that a checkpoint's name tells."""
    return int(path.stem.removeprefix("step-"))


def load_newest(folder: Path, say: Callable[[str], object], below: int | None = None) -> Checkpoint:
    """Read the newest whole checkpoint; a damaged one is passed over with a word.

    With `below`, only of fewer steps. Raises UserError where there is none.
    """
    for path in checkpoints(folder):
        if below is not None and step_of(path) >= below:
            continue
        try:
            header, vectors = _read(path, "checkpoint", CHECKPOINT)
        except bounds.UNREADABLE as error:
            what = "is damaged or of another version"
            if isinstance(error, OSError) and error.errno:
                what = f"can't be read ({error.strerror})"
            say(f"checkpoint {path} {what}; trying the one before")
            continue
        return Checkpoint(**header, params=vectors.pop("params"), state=vectors)
    raise UserError(f"no whole checkpoint in {folder}; start a new run without --resume")


def save_weights(path: Path, weights: Weights, check: Check | None = None) -> None:
    """Write trained weights, whole or not at all; `check` as for a checkpoint."""
    with whole_hdf5(path, "the weights", _checked(check)) as file:
        _write(file, "weights", weights, {"params": weights.params})


def weights_in(path: Path) -> dict[str, Path]:
    """The files of weights that a run's folder has, by what they are; "weights" first.

    A file stands for itself, as "weights".
    """
    others = {name: path / f"{name}.h5" for name in ("average", "best")}
    there = {name: file for name, file in others.items() if file.is_file()}
    return {"weights": path / "weights.h5", **there} if path.is_dir() else {"weights": path}


def load_weights(path: str | Path) -> Weights:
    """Read trained weights; a run's folder stands for its weights.h5.

    Raises UserError for a file that is missing, damaged or something else.
    """
    path = Path(path)
    try:
        path = path / "weights.h5" if path.is_dir() else path
        header, vectors = _read(path, "weights", WEIGHTS)
        bounds.check_images(header, header["network"]["channels"], header["network"]["classes"])
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"no weights {path}; a finished run has them in its folder as weights.h5"
        ) from error
    except bounds.UNREADABLE as error:
        reason = str(error) if isinstance(error, NotWhole) else None
        reason = reason or getattr(error, "strerror", None) or "damaged"
        raise UserError(f"{path} can't be used as weights ({reason}); name another file") from error
    return Weights(**header, params=vectors["params"])


def _write(
    file: h5py.File, kind: str, content: Checkpoint | Weights, vectors: Mapping[str, np.ndarray]
) -> None:
    fields = {k: v for k, v in vars(content).items() if k not in ("params", "state")}
    bounds.write_header(file, kind, fields)
    for name, vector in vectors.items():
        file.create_dataset(name, data=vector, dtype="<f4")


def _checked(check: Check | None) -> Callable[[h5py.File], None] | None:
    """Check all vectors of a file."""

    def call(file: h5py.File) -> None:
        assert check
        check("params", file["params"])
        for name, vector in file.get("state", {}).items():
            check(name, vector)

    return call if check else None


def _read(
    path: Path, kind: str, rules: Mapping[str, Rule]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and vectors of a file, "params" and those of the optimizer's state by their names."""
    with open_hdf5(path) as file:
        header = bounds.read_header(file, kind, rules, ABSENT[kind])
        root = bounds.root(file)
        names = bounds.members(root)
        if names not in (["params"], ["params", "state"]) or (names[1:] and kind == "weights"):
            raise NotWhole("it holds other things than it should")
        room = file.id.get_filesize()  # the vectors need as much of the file as of memory
        vectors = {"params": bounds.read_array(root, "params", "<f4", 1, room)}
        if names[1:]:
            state = bounds.member(root, "state", h5py.h5g.GroupID)
            for name in bounds.members(state):
                room -= vectors["params"].nbytes
                vector = bounds.read_array(state, name, "<f4", 1, room)
                if name in vectors or vector.shape != vectors["params"].shape:
                    raise NotWhole("its vectors differ in length")
                vectors[name] = vector
    return header, vectors
