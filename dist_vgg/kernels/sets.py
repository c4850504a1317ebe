"""The kernel sets by name: which there are, which of them this machine has, and loading one.

A set is imported when it is asked for, so that Numba stays optional.
"""

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

from dist_vgg.base.errors import UserError
from dist_vgg.kernels.protocol import Kernels

if TYPE_CHECKING:
    from dist_vgg.kernels import bfloat16, compiled, numpy_set, reference

    CHECKED: tuple[Kernels, ...] = (
        reference,
        numpy_set,
        compiled,
        bfloat16,
    )  # mypy compares them with the protocol

AUTO, COMPILED, NUMPY, REFERENCE = "auto", "compiled", "numpy", "reference"
FLOAT32, BFLOAT16 = "float32", "bfloat16"  # of --precision; the second is also a set's name
MODULES = {
    COMPILED: "dist_vgg.kernels.compiled",
    NUMPY: "dist_vgg.kernels.numpy_set",
    REFERENCE: "dist_vgg.kernels.reference",
    BFLOAT16: "dist_vgg.kernels.bfloat16",
}
MACHINE_CODE = "dist_vgg.kernels.machine_code"  # can't be imported without Numba
CHOICES = (AUTO, COMPILED, NUMPY, REFERENCE)  # of --kernels
OWN = "own"  # of --precision, for a trained network: that of its training
PRECISIONS = (OWN, FLOAT32, BFLOAT16)
PRECISION_HELP = (
    "of the numbers that are multiplied; own: bfloat16 where the network was trained so, and "
    "compiled kernels are here to compute it, else float32 (default: own)"
)
HELP = (
    "what computes the network; compiled: Numba, the same bits on every processor; numpy: "
    "Winograd convolution where it is faster; reference: im2col, as in textbooks; auto: compiled "
    "where it is installed, else numpy"
)


def why_missing(name: str) -> str:
    """Why a set can't be loaded here, in words; "" where it can."""
    if name not in (COMPILED, BFLOAT16):
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


def resolve(name: str, precision: str = FLOAT32) -> str:
    """The choice of --kernels that another means on this machine, where it may be "auto".

    UserError for kernels that don't have the precision.
    """
    if precision == BFLOAT16 and name in (AUTO, COMPILED):
        return COMPILED
    if precision == BFLOAT16:
        raise UserError(
            f"--precision {precision} needs compiled kernels: leave --kernels {name} out"
        )
    if name == AUTO:
        return NUMPY if why_missing(COMPILED) else COMPILED
    return name


def set_of(kernels: str, precision: str) -> str:
    """The name of the set that --kernels and --precision mean together."""
    name = resolve(kernels, precision)
    return precision if precision == BFLOAT16 else name


def set_for(trained_with: str, kernels: str, precision: str) -> str:
    """The name of the set that computes a network, by the name of that which trained it."""
    if precision != OWN:
        return set_of(kernels, precision)
    own = trained_with == BFLOAT16 and kernels in (AUTO, COMPILED)
    return BFLOAT16 if own and not why_missing(BFLOAT16) else resolve(kernels)


def load(name: str) -> Kernels:
    """The set of a name, or of "auto"; UserError where there is none or it is not installed."""
    if name not in (AUTO, *MODULES):
        raise UserError(f"no kernels {name}; choose one of {', '.join(CHOICES)}")
    name = resolve(name)
    if reason := why_missing(name):
        raise UserError(
            f"--{'precision' if name == BFLOAT16 else 'kernels'} {name} is missing: {reason}; "
            "install it with: pip install 'dist_vgg[fast]'"
        )
    kernels = cast(Kernels, importlib.import_module(MODULES[name]))
    if name in (COMPILED, BFLOAT16):
        importlib.import_module(MACHINE_CODE).prepare()
    return kernels


def on_every_processor(kernels: Kernels) -> bool:
    """Whether the bits of a set depend on its version alone, and not on BLAS and the processor."""
    return kernels.NAME in (COMPILED, BFLOAT16)


def unit(kernels: Kernels) -> list[str]:
    """What a set multiplies bfloat16 with, in words, and why; the bits don't depend on it."""
    if kernels.NAME != BFLOAT16:
        return []
    reason = importlib.import_module("dist_vgg.kernels.amx").why_not()
    return [f"emulated: {reason}" if reason else "on AMX tiles"]
