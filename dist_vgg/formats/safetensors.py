"""Trained networks as safetensors, with torchvision's names and layouts."""

import json
import stat
from pathlib import Path
from typing import Any

import numpy as np

from dist_vgg.base.errors import UserError
from dist_vgg.base.files import NotWhole, write_bytes
from dist_vgg.formats.metadata import describe, read_facts
from dist_vgg.formats.packages import load_package
from dist_vgg.formats.torchvision import flat_vector, shapes, to_torchvision
from dist_vgg.network.sequential import Sequential
from dist_vgg.network.vgg import vgg
from dist_vgg.state.checksums import parameter_digest
from dist_vgg.state.weights import Weights

TYPES = {"float32": ("F32", np.float32), "float16": ("F16", np.float16)}
START = 8  # bytes, of the header's length
NO_INT8 = (
    "safetensors has no int8 with scales that other programs read; export --precision float16, "
    "or --to weights or --to onnx"
)


def write_safetensors(path: Path, weights: Weights, net: Sequential) -> None:
    """Write float32 or float16 weights, whole or not at all; `net` is their network.

    The same weights give the same bytes. Raises UserError for int8.
    """
    write_bytes(path, as_safetensors(weights, net))


def as_safetensors(weights: Weights, net: Sequential) -> bytes:
    """The content of a safetensors file."""
    if weights.precision not in TYPES:
        raise UserError(NO_INT8)
    package = load_package("safetensors.numpy", "--to safetensors")
    dtype = TYPES[weights.precision][1]
    arrays = {
        name: array.astype(dtype, copy=False)
        for name, array in to_torchvision(net, weights.params).items()
    }
    return _sorted(package.save(arrays, {"format": "pt", **describe(weights)}))


def _sorted(content: bytes) -> bytes:
    """A file whose header is sorted: the package writes metadata in another order each time."""
    end = START + int.from_bytes(content[:START], "little")
    header = json.dumps(json.loads(content[START:end]), sort_keys=True).encode()
    header += b" " * (-len(header) % START)
    return b"".join((len(header).to_bytes(START, "little"), header, memoryview(content)[end:]))


def read_safetensors(path: Path) -> Weights:
    """Read what `write_safetensors` wrote; UserError for any other file."""
    package = load_package("safetensors", f"reading {path}")
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait
            raise NotWhole("it is no file")
        with package.safe_open(path, "numpy") as file:
            return _read(file)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"no weights {path}; name a file that dist_vgg.export wrote") from error
    except (package.SafetensorError, OSError, ValueError, MemoryError) as error:
        reason = str(error) if isinstance(error, NotWhole) else getattr(error, "strerror", None)
        raise UserError(
            f"{path} can't be used as weights ({reason or 'damaged, or no safetensors file'}); "
            "name another file"
        ) from error


def _read(file: Any) -> Weights:
    """The weights in an open file; NotWhole where they are not what `write_safetensors` wrote.

    No array is read before all have the right names, shapes and type, so that a file of a few bytes
    can't claim a large network.
    """
    fields = read_facts(file.metadata() or {})
    if fields["precision"] not in TYPES:
        raise NotWhole(f"its precision is {fields['precision']}")
    net = vgg(**fields["network"], dropout=0)
    _check(file, shapes(net), TYPES[fields["precision"]][0])
    params = flat_vector(net, file.get_tensor)
    if parameter_digest(params) != fields["sha256"]:
        raise NotWhole("its arrays have not the SHA-256 that it names")
    return Weights(**fields, params=params)


def _check(file: Any, expected: dict[str, tuple[int, ...]], dtype: str) -> None:
    """Raise NotWhole where the arrays are not those of the network, of this type."""
    names = set(file.keys())
    for name, shape in expected.items():
        if name not in names:
            raise NotWhole(f"it lacks {name}")
        found = file.get_slice(name)
        if tuple(found.get_shape()) != shape:
            raise NotWhole(f"its {name} is {tuple(found.get_shape())} and must be {shape}")
        if found.get_dtype() != dtype:
            raise NotWhole(f"its {name} is not of type {dtype}")
    if len(names) > len(expected):
        raise NotWhole("it has arrays that its network has not")
