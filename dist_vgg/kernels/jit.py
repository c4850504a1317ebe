"""`jit` marks a function that Numba compiles when machine_code.py finds no code of it.

    @jit(float32[::1], int64)
    def scale(x, factor): ...

Importing this file raises ImportError where Numba is not installed.
"""

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numba import types

from dist_vgg.base.errors import UserError

# Dividing by zero gives inf, as in NumPy. Without Numba's runtime nothing counts references, since
# arrays belong to the caller.
OPTIONS = dict(nogil=True, error_model="numpy", _nrt=False)
# The wrappers are for callers in Python, who would need Numba.
ENTRY = dict(no_cpython_wrapper=True, no_cfunc_wrapper=True)


@dataclass(frozen=True)
class Marked:
    """A function to compile, and the types of its arguments, as Numba has them."""

    function: Callable[..., None]
    types: tuple[Any, ...]


def jit(*types: Any) -> Callable[[Callable[..., None]], Marked]:
    """Mark a function for these types of its arguments: numbers, and contiguous arrays.

    It returns nothing, raises nothing and calls nothing that is not compiled into it. Its code may
    depend on constants of its file, on what its closure holds and on the processor, but on nothing
    else: the key of the cache knows no other settings.
    """
    return lambda function: Marked(function, types)


def compiled(name: str, dtype: np.dtype) -> bytes:
    """The machine code of a marked function, with `dtype` in the place of float32.

    A line of JSON comes first: the symbol of the function in the code, and the kinds of its
    arguments. Raises TypeError where the code would call other functions.
    """
    if numba.config.DISABLE_JIT:
        raise UserError("NUMBA_DISABLE_JIT forbids to compile kernels: unset it")
    module, _, attribute = name.rpartition(".")
    marked: Marked = getattr(importlib.import_module(module), attribute)
    signature = tuple(_for_dtype(kind, dtype) for kind in marked.types)
    dispatcher = numba.njit(**OPTIONS, **ENTRY)(marked.function)
    dispatcher.compile(signature)
    found = dispatcher.overloads[signature]
    calls = [f.name for f in found.library._final_module.functions if f.is_declaration]
    if foreign := [symbol for symbol in calls if not symbol.startswith("llvm.")]:
        raise TypeError(f"{name} can't be kept: it calls {', '.join(foreign)}")
    described = {"symbol": found.fndesc.llvm_func_name, "arguments": list(map(_kind, signature))}
    machine_code: bytes = found.library._get_compiled_object()
    return json.dumps(described).encode() + b"\n" + machine_code


def _for_dtype(kind: Any, dtype: np.dtype) -> Any:
    """A type of `jit` with another dtype in the place of float32."""
    number = numba.from_dtype(dtype)
    if isinstance(kind, types.Array) and kind.dtype == types.float32:
        return kind.copy(dtype=number)
    if isinstance(kind, types.CPointer) and kind.dtype == types.float32:
        return types.CPointer(number)
    return kind


def _kind(kind: Any) -> tuple[str, int]:
    """The kind of an argument, see machine_code.py."""
    return (str(kind.dtype), kind.ndim) if isinstance(kind, types.Array) else (str(kind), 0)
