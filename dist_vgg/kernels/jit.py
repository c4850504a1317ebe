"""`jit` compiles a function with Numba once, and keeps its machine code for all later starts.

    @jit("float32[:, ::1], int64", "float64[:, ::1], int64")
    def scale(x, factor): ...

    prepare()  # compiles what `jit` has marked, or loads it

The code lies in `kernels/<key>` of the user's cache folder. The key stands for all that decides it:
the sources beside the function and those of this room, the versions of what compiles, and the
processor. So what was compiled for another version or host is not found, rather than found out of
date.

Importing this file raises ImportError where Numba is not installed.
"""

import hashlib
import os
import pickle
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import config
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.registry import cpu_target
from numba.core.runtime import rtsys
from numba.core.serialize import dumps
from numba.core.sigutils import normalize_signature

from dist_vgg.base.cache import locked, make_private, private_folders, read_private, write_private
from dist_vgg.base.command_line import tell
from dist_vgg.base.errors import UserError
from dist_vgg.base.observe import Event

LOCK = "lock"  # in a key's folder; its time is when the key was last used
UNUSED_DAYS = 90  # after which a key's folder is removed
MEND = "DIST_VGG_CACHE can name another folder"
# Numba's settings, from its environment variables, that change what it compiles.
SETTINGS = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUGINFO_DEFAULT")

missing = Event()  # the machine code of a function is in no file, so Numba compiles it next
unkept = Event()  # a folder can't keep machine code; says the folder, and the OSError

_marked: list[tuple[Any, Any]] = []  # each function with the argument types to prepare


class _NotKept(Exception):
    """The machine code of a function is in no file."""


def jit(*signatures: Any, **options: Any) -> Any:
    """Compile a function with Numba, without the GIL; `prepare` does so for these argument types.

    Signatures are Numba's: "float32[:, ::1], int64", or "void(float32[::1])" with a single
    argument. A function that only compiled ones call needs none: @jit. `options` are njit's.
    Other types compile when they first come, without the lock, and are kept as well. Arrays that
    are read-only, not aligned or not contiguous are other types.

    Code may depend on constants of its file, on what its closure holds and on the processor, but
    on nothing else: the key knows no other settings. Dividing by zero gives inf, as in NumPy.
    """
    if len(signatures) == 1 and isinstance(signatures[0], FunctionType):
        return jit()(signatures[0])

    def mark(function: FunctionType) -> Any:
        if config.DISABLE_JIT:
            raise UserError("NUMBA_DISABLE_JIT forbids to compile kernels: unset it")
        # Functions of one factory share a name, by which Numba's symbols are told apart when code
        # that was compiled by several processes is loaded into one.
        function.__qualname__ = _full_name(function)
        compiled = numba.njit(**{"nogil": True, "error_model": "numpy", **options})(function)
        compiled._cache = _Files(function)
        _marked.extend((compiled, signature) for signature in signatures)
        return compiled

    return mark


def prepare(say: Callable[[str], None] = tell) -> None:
    """Load all that `jit` has marked; what is in no file is compiled, by one process only.

    Every rank calls it before its first step. Ranks that come while another compiles wait without
    using the processor. Whoever compiles says so by `say`, in a line.
    """
    with suppress(_NotKept), missing.observe(_not_kept):
        _load()
        return _mark_used()

    announced: list[str] = []
    failed: dict[Path, OSError] = {}

    def announce(name: str) -> None:
        if not announced:
            say("compiling kernels for this processor, once (about 30 s)")
        announced.append(name)

    with ExitStack() as until_done:
        for key in _keys():
            until_done.enter_context(_alone(key))
        until_done.enter_context(missing.observe(announce))
        until_done.enter_context(unkept.observe(failed.setdefault))
        _load()
    if failed and announced:
        say(_where_kept(failed))


def _load() -> None:
    for function, signature in _marked:
        function.compile(signature)


def _mark_used() -> None:
    for key in _keys():
        for folder in _folders(key):
            with suppress(OSError):
                os.utime(folder / LOCK)


def _keys() -> list[str]:
    return sorted({function._cache.key for function, _ in _marked})


def _not_kept(name: str) -> None:
    raise _NotKept(name)


class _Files(NullCache):
    """Where Numba looks for a function's machine code: a file for each tuple of argument types.

    Numba's own cache notices changes of the function's file alone, unpickles what it hasn't
    verified, and has one folder for all users of Numba in the process.
    """

    def __init__(self, function: FunctionType) -> None:
        self._function = function
        self.key = _key(Path(function.__code__.co_filename).parent)

    def load_overload(self, sig: Any, target_context: Any) -> CompileResult | None:
        name = self._name(sig)
        for folder in _folders(self.key):
            if code := read_private(folder / name):
                rtsys.initialize(target_context)
                return CompileResult._rebuild(target_context, *pickle.loads(code))
        missing(self._function.__qualname__)
        return None

    def save_overload(self, sig: Any, compiled: CompileResult) -> None:
        if compiled.library.has_dynamic_globals or compiled.lifted:
            name = self._function.__qualname__
            raise TypeError(f"{name} can't be kept: it uses addresses or large constant arrays")
        code = dumps(compiled._reduce())
        for folder in _folders(self.key):
            try:
                make_private(folder.parent)
                make_private(folder)
                return write_private(folder / self._name(sig), code)
            except OSError as error:
                unkept(folder.parent, error)

    def _name(self, sig: Any) -> str:
        function = self._function
        types = ", ".join(map(str, normalize_signature(sig)[0]))
        digest = hashlib.sha256(f"{function.__module__}.{function.__qualname__}({types})".encode())
        return f"{function.__name__}-{digest.hexdigest()[:16]}"


def _full_name(thing: Any) -> str:
    """A function's name, with what its closure holds; the same in every process."""
    # What Numba makes of functions: py_func is a compiled one's, _defn is an intrinsic's.
    function = getattr(thing, "py_func", getattr(thing, "_defn", thing))
    if not isinstance(function, FunctionType):
        return repr(thing)
    held = [_full_name(cell.cell_contents) for cell in function.__closure__ or ()]
    return function.__qualname__ + (f"[{', '.join(held)}]" if held else "")


@cache
def _key(sources: Path) -> str:
    """The name of the folder for code from these sources, compiled by and for what runs here."""
    digest = hashlib.sha256()
    # Compiled code has constants of other files of this room, and options of this one.
    room = Path(__file__).parent
    for path in sorted({*sources.glob("[!.]*.py"), *room.rglob("[!.]*.py")}):
        digest.update(path.read_bytes())
    processor = cpu_target.target_context.codegen().magic_tuple()
    versions = (numba.__version__, llvmlite.__version__, sys.version, np.__version__)
    settings = [getattr(config, name, None) for name in SETTINGS]
    digest.update(repr((processor, versions, settings)).encode())
    return digest.hexdigest()[:16]


def _folders(key: str) -> list[Path]:
    return [folder / key for folder in private_folders("kernels")]


def _where_kept(failed: dict[Path, OSError]) -> str:
    """The line about folders that could not be used, and the one that was."""
    folders = private_folders("kernels")
    why = f"can't use the cache {folders[0]}: {failed[folders[0]].strerror}"
    kept = next((f"are kept in {folder}" for folder in folders if folder not in failed), None)
    return f"{why}; compiled kernels {kept or 'are not kept, nor shared with other ranks'}; {MEND}"


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
