"""The kernel sets by name: which there are, which of them this machine has, and loading one.

A set is imported when it is asked for, so that Numba stays optional.
"""

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

from dist_vgg.base.errors import UserError
from dist_vgg.kernels.protocol import Kernels

if TYPE_CHECKING:
    from dist_vgg.kernels import compiled, numpy_set, reference

    CHECKED: tuple[Kernels, ...] = (
        reference,
        numpy_set,
        compiled,
    )  # mypy compares them with the protocol

AUTO, COMPILED, NUMPY, REFERENCE = "auto", "compiled", "numpy", "reference"
MODULES = {
    COMPILED: "dist_vgg.kernels.compiled",
    NUMPY: "dist_vgg.kernels.numpy_set",
    REFERENCE: "dist_vgg.kernels.reference",
}
MACHINE_CODE = "dist_vgg.kernels.machine_code"  # can't be imported without Numba
CHOICES = (AUTO, *MODULES)  # of --kernels
HELP = (
    "what computes the network; compiled: Numba, the same bits on every processor; numpy: "
    "Winograd convolution where it is faster; reference: im2col, as in textbooks; auto: compiled "
    "where it is installed, else numpy"
)


def why_missing(name: str) -> str:
    """Why a set can't be loaded here, in words; "" where it can."""
    if name != COMPILED:
        return ""
    if find_spec(MODULES[name]) is None:
        return "this version of dist_vgg does not have it"
    try:
        importlib.import_module(MODULES[name])
        # Code that is kept needs no Numba, which takes long to import.
        if not importlib.import_module(MACHINE_CODE).kept():
            importlib.import_module("numba")
    except ImportError as error:  # Numba also raises it for a NumPy that is too new
        return f"Numba can't be imported ({str(error).splitlines()[0]})"
    return ""


def resolve(name: str) -> str:
    """The set that a choice of --kernels means on this machine."""
    if name == AUTO:
        return NUMPY if why_missing(COMPILED) else COMPILED
    return name


def load(name: str) -> Kernels:
    """The set of a name, or of "auto"; UserError where there is none or it is not installed."""
    if name not in CHOICES:
        raise UserError(f"no kernels {name}; choose one of {', '.join(CHOICES)}")
    name = resolve(name)
    if reason := why_missing(name):
        raise UserError(
            f"--kernels {name} is missing: {reason}; install it with: pip install 'dist_vgg[fast]'"
        )
    kernels = cast(Kernels, importlib.import_module(MODULES[name]))
    if name == COMPILED:
        importlib.import_module(MACHINE_CODE).prepare()
    return kernels


def on_every_processor(kernels: Kernels) -> bool:
    """Whether the bits of a set depend on its version alone, and not on BLAS and the processor."""
    return kernels.NAME == COMPILED
