"""A checkpoint is all that a run needs to go on.

    checkpoints/step-00000125.h5    params, state/<name>, and `Checkpoint`'s fields

The fields are JSON in the attribute `header`, and a digest is over all (base/files.py).
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
from dist_vgg.base.files import NotWhole, open_hdf5
from dist_vgg.state.weights import STEPS, Check, network, written_hdf5

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
# Earlier versions had one version of their kernels.
ABSENT: dict[str, Any] = dict(kernels_version=1)


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


def save_checkpoint(
    folder: Path, checkpoint: Checkpoint, keep: int, check: Check | None = None
) -> Path:
    """Write a checkpoint, whole or not at all; then remove all but the newest `keep`.

    Before it counts, `check` gets each vector by its name, as it is read back from the disk.
    """
    path = folder / f"step-{checkpoint.step:08d}.h5"
    fields = {k: v for k, v in vars(checkpoint).items() if k not in ("params", "state")}
    with written_hdf5(path, "a checkpoint", check) as file:
        bounds.write_header(file, "checkpoint", fields)
        file.create_dataset("params", data=checkpoint.params, dtype="<f4")
        for name, vector in checkpoint.state.items():
            file.create_dataset(f"state/{name}", data=vector, dtype="<f4")
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
            return _read(path)
        except bounds.UNREADABLE as error:
            what = "is damaged or of another version"
            if isinstance(error, OSError) and error.errno:
                what = f"can't be read ({error.strerror})"
            say(f"checkpoint {path} {what}; trying the one before")
    raise UserError(f"no whole checkpoint in {folder}; start a new run without --resume")


def _read(path: Path) -> Checkpoint:
    """The checkpoint in a file; raises one of bounds.UNREADABLE."""
    with open_hdf5(path) as file:
        header = bounds.read_header(file, "checkpoint", CHECKPOINT, ABSENT)
        root = bounds.root(file)
        if bounds.members(root) not in (["params"], ["params", "state"]):
            raise NotWhole("it holds other things than it should")
        room = file.id.get_filesize()  # the vectors need as much of the file as of memory
        params = bounds.read_array(root, "params", "<f4", 1, room)
        vectors = {}
        if "state" in bounds.members(root):
            state = bounds.member(root, "state", h5py.h5g.GroupID)
            for name in bounds.members(state):
                room -= params.nbytes
                vectors[name] = bounds.read_array(state, name, "<f4", 1, room)
                if name == "params" or vectors[name].shape != params.shape:
                    raise NotWhole("its vectors differ in length")
    return Checkpoint(**header, params=params, state=vectors)
