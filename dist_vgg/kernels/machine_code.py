"""Functions from machine code that lies in files: compiled once on a machine, loaded ever after.

    scale = Function("dist_vgg.kernels.passes.pool.scale")  # which `jit` has marked, see jit.py

    prepare()  # loads the code of all functions, or has it compiled
    scale(x, 3)  # x is an array

Loading needs LLVM's linker (llvmlite) and takes milliseconds. Numba, which takes much longer to
import, is needed only to compile.

The code lies in `kernels/<key>` of the user's cache folder. The key stands for all that decides it:
the sources beside the function and those of this room, the versions of what compiles, and the
processor. So what was compiled for another version or host is not found, rather than found out of
date.

Importing this file raises ImportError where llvmlite, and so Numba, is not installed.
"""

import ctypes
import hashlib
import importlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import llvmlite
import numpy as np
from llvmlite import binding

from dist_vgg.base.cache import locked, make_private, private_folders, read_private, write_private
from dist_vgg.base.command_line import tell
from dist_vgg.base.machine import numba_version
from dist_vgg.kernels.passes.sizes import processor

LOCK = "lock"  # in a key's folder; its time is when the key was last used
UNUSED_DAYS = 90  # after which a key's folder is removed
MEND = "DIST_VGG_CACHE can name another folder"
# Numba's environment variables that change what it compiles, beside those of `processor`.
SETTINGS = ("NUMBA_OPT", "NUMBA_LOOP_VECTORIZE", "NUMBA_SLP_VECTORIZE", "NUMBA_BOUNDSCHECK",
            "NUMBA_DEBUGINFO", "NUMBA_ENABLE_AVX")  # fmt: skip
FLOAT32 = np.dtype(np.float32)

# Of an argument: dtype and dimensions, of which a number has none.
Kind = tuple[np.dtype | None, int]

_functions: list["Function"] = []


class Function:
    """A compiled function, found by name, that takes contiguous arrays, whole numbers and flags.

    Calling it releases the GIL. It has a version for float32, which `prepare` loads, and may be
    called with arrays of float64 in the place of all float32.
    """

    def __init__(self, name: str) -> None:
        """`name` is that of module and function, such as "dist_vgg.kernels.passes.pool.forward"."""
        self.name = name
        self._loaded: dict[np.dtype, _Loaded] = {}
        _functions.append(self)

    def __call__(self, *arguments: Any) -> None:
        """Raises TypeError for arguments of other kinds than the function was compiled for."""
        numbers = (a.dtype for a in arguments if isinstance(a, np.ndarray) and a.dtype.kind == "f")
        self._version(next(numbers, FLOAT32))(arguments)

    def address(self, dtype: np.dtype) -> int:
        """Where its machine code lies, for compiled functions that call it."""
        return self._version(dtype).address

    def find(self, dtype: np.dtype = FLOAT32) -> bool:
        """Whether the code for a dtype is loaded, after a look into the cache."""
        if dtype not in self._loaded:
            for folder in _folders(self.key):
                if code := read_private(folder / self._file(dtype)):
                    self._loaded[dtype] = _Loaded(self.name, code)
                    return True
        return dtype in self._loaded

    def compile(self, dtype: np.dtype = FLOAT32) -> dict[Path, OSError]:
        """Compile, load and keep the code for a dtype; returns the folders that can't keep it."""
        # jit.py imports Numba.
        code = importlib.import_module("dist_vgg.kernels.jit").compiled(self.name, dtype)
        self._loaded[dtype] = _Loaded(self.name, code)
        failed = {}
        for folder in _folders(self.key):
            try:
                make_private(folder.parent)
                make_private(folder)
                write_private(folder / self._file(dtype), code)
                break
            except OSError as error:
                failed[folder.parent] = error
        return failed

    @cached_property
    def key(self) -> str:
        """The name of the folder that its code is kept in."""
        found = find_spec(self.name.rpartition(".")[0])
        assert found and found.origin, self.name
        return _key(Path(found.origin).parent)

    def _version(self, dtype: np.dtype) -> "_Loaded":
        if not self.find(dtype):
            self.compile(dtype)
        return self._loaded[dtype]

    def _file(self, dtype: np.dtype) -> str:
        return f"{self.name}-{dtype}"


class _Loaded:
    """Machine code in memory, and how it is called."""

    def __init__(self, name: str, code: bytes) -> None:
        head, _, machine_code = code.partition(b"\n")
        described = json.loads(head)
        self._name = name
        self._kinds: list[Kind] = [
            (np.dtype(name) if dimensions else None, dimensions)
            for name, dimensions in described["arguments"]
        ]
        target = _native().create_target_machine(jit=True)
        # One engine for each, since inlined functions have the same names in several files.
        self._engine = binding.create_mcjit_compiler(binding.parse_assembly(""), target)
        self._engine.add_object_file(binding.ObjectFileRef.from_data(machine_code))
        self._engine.finalize_object()
        self.address: int = self._engine.get_function_address(described["symbol"])
        types: list[Any] = [ctypes.c_void_p, ctypes.c_void_p]
        for _, dimensions in self._kinds:
            types += _array_types(dimensions) if dimensions else [ctypes.c_int64]
        self._call = ctypes.CFUNCTYPE(ctypes.c_int32, *types)(self.address)

    def __call__(self, arguments: Sequence[Any]) -> None:
        # Numba's way to call: places for the result and an exception, which these functions have
        # not, then the arguments; an array is its owner and parent, counts, address and steps.
        flat: list[Any] = [ctypes.byref(ctypes.c_void_p()), ctypes.byref(ctypes.c_void_p())]
        for (dtype, dimensions), argument in zip(self._kinds, arguments, strict=True):
            if not dimensions:
                flat.append(int(argument))
                continue
            # Not by the dtype's name: to make it takes as long as all else here.
            fits = argument.dtype == dtype and argument.ndim == dimensions
            if not (fits and argument.flags.c_contiguous):
                raise TypeError(f"{self._name} takes contiguous {dtype} in {dimensions} dimensions")
            flat += (None, None, argument.size, argument.itemsize, argument.ctypes.data)
            flat += argument.shape + argument.strides
        if status := self._call(*flat):
            raise RuntimeError(f"{self._name} failed with status {status}")


@cache
def _native() -> binding.Target:
    with suppress(RuntimeError):  # newer versions do it by themselves, and say so
        binding.initialize()
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding.Target.from_default_triple()


def _array_types(dimensions: int) -> list[Any]:
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    return [pointer, pointer, number, number, pointer] + [number] * (2 * dimensions)


def kept() -> bool:
    """Whether the cache has the code of all functions, so that nothing is to be compiled."""
    return all([function.find() for function in _functions])


def prepare(say: Callable[[str], None] = tell) -> None:
    """Load the code of all functions; what is in no file is compiled, by one process only.

    Every rank calls it before its first step. Ranks that come while another compiles wait without
    using the processor. Whoever compiles says so by `say`, in a line.
    """
    if kept():
        return _mark_used()
    with ExitStack() as until_done:
        for key in _keys():
            until_done.enter_context(_alone(key))
        missing = [function for function in _functions if not function.find()]
        if missing:
            say("compiling kernels for this processor, once (about 30 s)")
        failed: dict[Path, OSError] = {}
        for function in missing:
            failed |= function.compile()
    if failed:
        say(_where_kept(failed))


def _mark_used() -> None:
    for key in _keys():
        for folder in _folders(key):
            with suppress(OSError):
                os.utime(folder / LOCK)


def _keys() -> list[str]:
    return sorted({function.key for function in _functions})


@cache
def _key(sources: Path) -> str:
    """The name of the folder for code from these sources, compiled by and for what runs here."""
    digest = hashlib.sha256()
    # Compiled code has constants of other files of this room, and options of jit.py.
    room = Path(__file__).parent
    for path in sorted({*sources.glob("[!.]*.py"), *room.rglob("[!.]*.py")}):
        digest.update(path.read_bytes())
    versions = (numba_version(), llvmlite.__version__, sys.version, np.__version__)
    settings = [os.environ.get(name) for name in SETTINGS]
    digest.update(repr((processor(), versions, settings)).encode())
    return digest.hexdigest()[:16]


def _folders(key: str) -> list[Path]:
    return [folder / key for folder in private_folders("kernels")]


def _where_kept(failed: dict[Path, OSError]) -> str:
    """The line about folders that could not be used, and the one that was."""
    folders = private_folders("kernels")
    why = f"can't use the cache {folders[0]}: {failed[folders[0]].strerror}"
    place = next((f"are kept in {folder}" for folder in folders if folder not in failed), None)
    return f"{why}; compiled kernels {place or 'are not kept, nor shared with other ranks'}; {MEND}"


@contextmanager
def _alone(key: str) -> Iterator[None]:
    """Hold the lock of all that compile for a key, in the first folder that can have one."""
    with ExitStack() as until_done:
        for folder in _folders(key):
            with suppress(OSError):
                make_private(folder.parent)
                make_private(folder)
                until_done.enter_context(locked(folder / LOCK))
                _tidy(folder)
                break
        yield


def _tidy(folder: Path) -> None:
    """Remove the folders of unused keys, and what a killed process left in this one."""
    for lock in folder.parent.glob(f"*/{LOCK}"):
        if time.time() - lock.stat().st_mtime > UNUSED_DAYS * 24 * 3600:
            shutil.rmtree(lock.parent, ignore_errors=True)
    for partial in folder.glob(".*.partial"):
        partial.unlink(missing_ok=True)
