"""Checks of what a file says of itself, made before anything of it is believed.

A digest reveals damage, but whoever makes a file can make its digest too. So reading costs memory
in proportion to the size of the file, and takes nothing from outside it.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dist_vgg.base.chunks import RowsOnDemand, block_rows, file_size, inflate, read_block
from dist_vgg.base.files import NotWhole

# What h5py raises for a file whose digest is right and whose structure is not.
UNREADABLE = (NotWhole, OSError, RuntimeError, KeyError, TypeError, ValueError, MemoryError)

Rule = Callable[[Any], bool]
EMPTY: Mapping[str, Any] = {}
MAX_HEADER = 60_000  # bytes; an attribute of HDF5 has at most 65,536
MAX_MEMBERS = 10  # datasets or groups in a group
MAX_SIZE, MAX_CHANNELS, MAX_CLASSES = 1024, 16, 1000  # of images
MAX_NAME = 255  # characters of a class's name, as many as a folder's may have
MAX_NAMES = 40_000  # bytes of all classes' names in a header, beside which others have room
# How an image becomes the network's input: a digit is cut out, scaled and centred as MNIST's are;
# another is scaled so that it fills the square, lies within it, or is stretched to it.
PREPARATIONS = ("digit", "crop", "pad", "stretch")
MAX_SHARDS = 99_999  # the digits in a shard's name


def text(value: Any) -> bool:
    """A string that can be shown on a terminal."""
    return type(value) is str and value.isprintable()


def sha256(value: Any) -> bool:
    """A SHA-256 in hexadecimal."""
    return type(value) is str and len(value) == 64 and set(value) <= set("0123456789abcdef")


def integer(low: int, high: int) -> Rule:
    """An integer from low to high."""
    return lambda value: type(value) is int and low <= value <= high


def number(low: float, high: float, open_low: bool = False) -> Rule:
    """A finite number from low, or above it, to high."""
    return lambda value: (
        type(value) in (int, float) and low <= value <= high and not (open_low and value == low)
    )


def several(rule: Rule, most: int) -> Rule:
    """A list of at most so many values that all keep a rule."""
    return lambda value: type(value) is tuple and len(value) <= most and all(map(rule, value))


def mapping(rule: Rule) -> Rule:
    """A JSON object whose values all keep a rule."""
    return lambda value: (
        type(value) is dict and all(map(text, value)) and all(map(rule, value.values()))
    )


def option(value: Any) -> bool:
    """A value of the command line; a path may have characters that no terminal shows."""
    return type(value) in (str, bool, int) or (type(value) is float and math.isfinite(value))


def wrong(fields: Mapping[str, Any], rules: Mapping[str, Rule]) -> str:
    """What is wrong with the fields, which must be those that have a rule; "" for nothing."""
    for name, rule in rules.items():
        if name not in fields:
            return f"its header lacks {name}"
        if not rule(fields[name]):
            return f"its {name} is out of bounds"
    return "" if len(fields) == len(rules) else "its header has an unknown field"


def _one_or_several(rule: Rule, most: int) -> Rule:
    return lambda value: rule(value) or several(rule, most)(value)


_class_names = several(lambda name: text(name) and 0 < len(name) <= MAX_NAME, MAX_CLASSES)
# What shards and weights say of images, and its values in files of earlier versions.
IMAGES: dict[str, Rule] = dict(
    mean=_one_or_several(number(0, 255), MAX_CHANNELS),
    std=_one_or_several(number(0, 255, open_low=True), MAX_CHANNELS),
    class_names=lambda value: _class_names(value) and len(json.dumps(value)) <= MAX_NAMES,
    preparation=lambda value: value in PREPARATIONS,
)
ABSENT_IMAGES: dict[str, Any] = dict(class_names=(), preparation="digit")


def check_images(fields: dict[str, Any], channels: int, classes: int) -> None:
    """Bring what a header says of images into one form.

    Raises NotWhole where it is not for so many channels and classes.
    """
    for name in ("mean", "std"):
        if type(fields[name]) is not tuple:  # of an earlier version: one for all channels
            fields[name] = (fields[name],)
        if len(fields[name]) not in (1, channels):
            raise NotWhole(f"its {name} is not of {channels} channels")
    if len(fields["class_names"]) not in (0, classes):
        raise NotWhole(f"its class_names are not those of {classes} classes")


def write_header(file: h5py.File, kind: str, fields: Mapping[str, Any]) -> None:
    """Write the file's kind and fields as one attribute, JSON in a string of fixed length."""
    file.attrs["header"] = np.bytes_(json.dumps({"kind": kind, **fields}))


def read_header(
    file: h5py.File, kind: str, rules: Mapping[str, Rule], defaults: Mapping[str, Any] = EMPTY
) -> dict[str, Any]:
    """The fields of a file of this kind, each checked by its rule.

    `defaults` are the values of fields that earlier versions did not write.

    Raises NotWhole for another kind of file, and for a field too many, too few or out of bounds.
    """
    attribute = h5py.h5a.open(file.id, b"header")
    form = attribute.get_type()
    # A string of variable length would be a pointer that the file may set to anything.
    if (
        not isinstance(form, h5py.h5t.TypeStringID)
        or form.is_variable_str()
        or not 0 < form.get_size() <= MAX_HEADER
        or attribute.get_space().get_simple_extent_type() != h5py.h5s.SCALAR
    ):
        raise NotWhole("its header is no string")
    raw = np.empty((), f"S{form.get_size()}")
    attribute.read(raw)
    return parse_header(raw.item(), kind, rules, defaults)


def parse_header(
    raw: bytes | str, kind: str, rules: Mapping[str, Rule], defaults: Mapping[str, Any] = EMPTY
) -> dict[str, Any]:
    """The fields in the JSON of a header; else as `read_header`."""
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise NotWhole("its header is not JSON") from error
    if type(fields) is not dict or fields.get("kind") != kind:
        raise NotWhole(f"it holds no {kind}")
    del fields["kind"]
    found = {name: tuple(v) if type(v) is list else v for name, v in fields.items()}
    fields = {**defaults, **found}
    if reason := wrong(fields, rules):
        raise NotWhole(reason)
    return fields


def root(file: h5py.File) -> h5py.h5g.GroupID:
    """The group that holds all that a file has."""
    return h5py.h5g.open(file.id, b"/")


def members(group: h5py.h5g.GroupID) -> list[str]:
    """The names in a group, sorted; NotWhole where one is a link or there are very many."""
    names: list[bytes] = []

    def take(name: bytes) -> bool | None:  # anything but None ends the iteration
        names.append(name)
        return True if len(names) > MAX_MEMBERS else None

    group.links.iterate(take)
    if len(names) > MAX_MEMBERS:
        raise NotWhole("it holds unknown members")
    for name in names:
        if group.links.get_info(name).type != h5py.h5l.TYPE_HARD:
            raise NotWhole("it has a link to elsewhere")
    return sorted(name.decode("ascii", "replace") for name in names)


def member(group: h5py.h5g.GroupID, name: str, kind: type) -> Any:
    """The group or dataset of that name; NotWhole where it is missing or something else."""
    found = h5py.h5o.open(group, name.encode()) if name in members(group) else None
    if not isinstance(found, kind):
        raise NotWhole(f"it lacks {name}")
    return found


def read_array(group: h5py.h5g.GroupID, name: str, dtype: str, ndim: int, most: int) -> np.ndarray:
    """Read an array of numbers that lie in this file, as they are or gzipped in blocks of rows.

    Raises NotWhole for another type or number of dimensions, for more than `most` bytes, and
    for an array that claims to be larger than what the file holds of it.
    """
    dataset, shape = _checked(group, name, dtype, ndim, most)
    array = np.empty(shape, dtype)
    if dataset.get_create_plist().get_layout() != h5py.h5d.CHUNKED:
        dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, array)
        return array
    step = block_rows(dataset, name)
    size = step * math.prod(shape[1:]) * array.itemsize
    for row in range(0, shape[0], step):
        data = inflate(read_block(dataset, row, name), size, name)
        rows = array[row : row + step]
        rows[:] = np.frombuffer(data, dtype).reshape(step, *shape[1:])[: len(rows)]
    return array


def rows_on_demand(
    group: h5py.h5g.GroupID, path: Path, name: str, dtype: str, ndim: int, most: int
) -> RowsOnDemand | np.ndarray:
    """The array that `read_array` would read, whose rows are read from the file when needed.

    What is not stored in blocks is read whole.
    """
    dataset, _ = _checked(group, name, dtype, ndim, most)
    if dataset.get_create_plist().get_layout() != h5py.h5d.CHUNKED:
        return read_array(group, name, dtype, ndim, most)
    return RowsOnDemand(path, dataset, name)


def _checked(
    group: h5py.h5g.GroupID, name: str, dtype: str, ndim: int, most: int
) -> tuple[h5py.h5d.DatasetID, tuple[int, ...]]:
    """A dataset that is what `read_array` says, and its shape."""
    dataset = member(group, name, h5py.h5d.DatasetID)
    plist, space = dataset.get_create_plist(), dataset.get_space()
    if not dataset.get_type().equal(h5py.h5t.py_create(np.dtype(dtype))):
        raise NotWhole(f"its {name} are not of type {dtype}")
    simple = space.get_simple_extent_type() == h5py.h5s.SIMPLE
    shape = space.get_simple_extent_dims() if simple else ()
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if len(shape) != ndim or not 0 < size <= most:
        raise NotWhole(f"its {name} have an impossible shape")
    if plist.get_layout() != h5py.h5d.CHUNKED:
        if plist.get_layout() != h5py.h5d.CONTIGUOUS or plist.get_external_count():
            raise NotWhole(f"its {name} are not in this file")
        if not dataset.get_storage_size() == size <= file_size(dataset):
            raise NotWhole(f"its {name} claim to be larger than they are")
    return dataset, shape
