"""HDF5 files of ours whose digest is right and whose content is not."""

import functools
import itertools
import json
import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dist_vgg.base.files import seal


@contextmanager
def edited(path: Path) -> Iterator[h5py.File]:
    """Change a file, then give it the digest of what it has become."""
    with h5py.File(path, "r+") as file:
        yield file
    seal(path)


def say(path: Path, *without: str, **fields: Any) -> None:
    """Change, add or leave out what the file's header says."""
    with edited(path) as file:
        header = {**json.loads(file.attrs["header"]), **fields}
        kept = {name: value for name, value in header.items() if name not in without}
        say_text(file, json.dumps(kept))


def say_text(file: h5py.File, header: str) -> None:
    """Give the open file a header of any text."""
    del file.attrs["header"]
    file.attrs["header"] = np.bytes_(header)


def _replace(file: h5py.File, name: str) -> None:
    """Take out a dataset, to put another thing in its place."""
    if name in file:
        del file[name]


def soft_link(file: h5py.File, name: str) -> None:
    file[f"{name}2"] = file[name]
    _replace(file, name)
    file[name] = h5py.SoftLink(f"/{name}2")


def external_link(file: h5py.File, name: str) -> None:
    _replace(file, name)
    file[name] = h5py.ExternalLink("/etc/passwd", name)


def external_storage(file: h5py.File, name: str) -> None:
    _replace(file, name)
    file.create_dataset(name, (100,), "u1", external=[("/etc/passwd", 0, 100)])


def virtual(file: h5py.File, name: str) -> None:
    layout = h5py.VirtualLayout(file[name].shape, file[name].dtype)
    layout[...] = h5py.VirtualSource("/elsewhere.h5", name, file[name].shape)
    _replace(file, name)
    file.create_virtual_dataset(name, layout)


def never_written(file: h5py.File, name: str) -> None:
    """A terabyte that takes no room in the file."""
    shape, dtype = (1 << 38, *file[name].shape[1:]), file[name].dtype
    _replace(file, name)
    file.create_dataset(name, shape, dtype)


def never_written_chunks(file: h5py.File, name: str) -> None:
    shape, dtype = (1 << 28, *file[name].shape[1:]), file[name].dtype
    _replace(file, name)
    file.create_dataset(name, shape, dtype, chunks=(64, *shape[1:]), compression="gzip")


def compact(file: h5py.File, name: str) -> None:
    data = file[name][:1]
    _replace(file, name)
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple(data.shape)
    form = h5py.h5t.py_create(data.dtype)
    h5py.h5d.create(file.id, name.encode(), form, space, plist)


def _chunk(file: h5py.File, name: str, data: bytes, grow: tuple[int, ...] = (0,)) -> None:
    """One chunk of any content, as large as the array or larger."""
    shape, dtype = file[name].shape, file[name].dtype
    chunks = tuple(n + more for n, more in itertools.zip_longest(shape, grow, fillvalue=0))
    _replace(file, name)
    made = file.create_dataset(
        name, shape, dtype, chunks=chunks, maxshape=(None,) * len(shape), compression="gzip"
    )
    made.id.write_direct_chunk((0,) * len(shape), data)


def swelling(file: h5py.File, name: str) -> None:
    """A chunk that unzips to 128 MiB."""
    _chunk(file, name, bomb())


def large_chunk(file: h5py.File, name: str) -> None:
    """A chunk that unzips to no more than it claims."""
    each = file[name][:1].nbytes
    _chunk(file, name, bomb(), ((128 << 20) // each - len(file[name]),))


def wide_chunk(file: h5py.File, name: str) -> None:
    shape, itemsize = file[name].shape, file[name].dtype.itemsize
    grow = (128 << 20) // itemsize // math.prod(shape[:-1]) - shape[-1]
    _chunk(file, name, bomb(), (*(0 for _ in shape[1:]), grow))


def garbled_chunk(file: h5py.File, name: str) -> None:
    _chunk(file, name, b"no gzip")


def short_chunk(file: h5py.File, name: str) -> None:
    _chunk(file, name, zlib.compress(b"short"))


def torn_chunk(file: h5py.File, name: str) -> None:
    _chunk(file, name, zlib.compress(bytes(file[name].size * file[name].dtype.itemsize))[:-2])


def filtered(file: h5py.File, name: str) -> None:
    data = file[name][...]
    _replace(file, name)
    file.create_dataset(name, data=data, chunks=data.shape, shuffle=True, compression="lzf")


def strings(file: h5py.File, name: str) -> None:
    _replace(file, name)
    file.create_dataset(name, data=["a", "bc"], dtype=h5py.string_dtype())


def compound(file: h5py.File, name: str) -> None:
    _replace(file, name)
    file.create_dataset(name, data=np.zeros(5, "f4, i8, S3"))


def other_type(file: h5py.File, name: str) -> None:
    data = file[name][...].astype("f8")
    _replace(file, name)
    file[name] = data


def scalar(file: h5py.File, name: str) -> None:
    _replace(file, name)
    file[name] = 1


def nothing(file: h5py.File, name: str) -> None:
    dtype = file[name].dtype
    _replace(file, name)
    file[name] = h5py.Empty(dtype)


def group(file: h5py.File, name: str) -> None:
    _replace(file, name)
    file.create_group(name)


def group_in_itself(file: h5py.File, name: str) -> None:
    _replace(file, name)
    file[name] = file["/"]


def one_more(file: h5py.File, name: str) -> None:
    file[f"{name}2"] = 1


def thousands_more(file: h5py.File, name: str) -> None:
    for i in range(2000):
        file[f"{name}{i}"] = h5py.SoftLink("/")


def header_of_any_length(file: h5py.File, name: str) -> None:
    header = file.attrs["header"].decode()
    del file.attrs["header"]
    file.attrs["header"] = header


def header_of_numbers(file: h5py.File, name: str) -> None:
    del file.attrs["header"]
    file.attrs["header"] = np.arange(100)


def headers(file: h5py.File, name: str) -> None:
    header = file.attrs["header"]
    del file.attrs["header"]
    file.attrs["header"] = [header, header]


def header_without_end(file: h5py.File, name: str) -> None:
    say_text(file, "[" * 50_000)


def header_of_digits(file: h5py.File, name: str) -> None:
    say_text(file, '{"kind": %s}' % ("1" * 50_000))


LIES: list[Callable[[h5py.File, str], None]] = [
    soft_link,
    external_link,
    external_storage,
    virtual,
    never_written,
    never_written_chunks,
    compact,
    swelling,
    large_chunk,
    wide_chunk,
    garbled_chunk,
    short_chunk,
    torn_chunk,
    filtered,
    strings,
    compound,
    other_type,
    scalar,
    nothing,
    group,
    group_in_itself,
    one_more,
    thousands_more,
    header_of_any_length,
    header_of_numbers,
    headers,
    header_without_end,
    header_of_digits,
]


@functools.cache
def bomb() -> bytes:
    """130 kB that unzip to 128 MiB."""
    return zlib.compress(bytes(128 << 20))
