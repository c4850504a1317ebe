"""Parameters in fewer bytes: float16, or int8 with a float32 scale for each output channel.

Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference: a whitepaper",
arXiv:1806.08342, section 3.1.1 (symmetric, per channel).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dist_vgg.base.bounds import integer
from dist_vgg.base.errors import UserError

PRECISIONS = ("float32", "float16", "int8")
LEVELS = 127  # on either side of 0: -128 is not used
SPARE = 7  # low bits of a scale that are 0, as many as a level has
Layout = Sequence[tuple[int, int]]  # inputs and outputs of each layer's weights, before its bias


def quantise(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Levels in int8, of `weight`'s shape, and the float32 scale of each output channel.

    `weight` is float32, its last axis the output channels. A scale's last seven bits are 0, so that
    scale times level is exact in float32: every program gets the same weights from them, and to
    quantise those again changes nothing.
    """
    most = np.abs(weight).max(axis=tuple(range(weight.ndim - 1)))
    bits = (most / np.float32(LEVELS)).view(np.int32)
    spare = np.int32((1 << SPARE) - 1)
    scales = ((bits + spare) & ~spare).view(np.float32)  # rounded up: no level is beyond 127
    scales[scales < np.finfo(np.float32).tiny] = 1  # of a channel that is 0 everywhere
    return np.rint(weight / scales).astype(np.int8), scales


def dequantise(levels: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The float32 weights that levels and the scales of their last axis stand for."""
    with np.errstate(over="ignore", invalid="ignore"):  # a file may name any scales
        return levels * scales


def split(params: np.ndarray, layout: Layout) -> dict[str, np.ndarray]:
    """A flat float32 vector as three: int8 levels, float32 scales and biases, in layer order."""
    parts: dict[str, list[np.ndarray]] = dict(levels=[], scales=[], biases=[])
    at = 0
    for inputs, outputs in layout:
        end = at + inputs * outputs
        levels, scales = quantise(params[at:end].reshape(inputs, outputs))
        parts["levels"].append(levels.ravel())
        parts["scales"].append(scales)
        parts["biases"].append(params[end : end + outputs])
        at = end + outputs
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def join(parts: dict[str, np.ndarray], layout: Layout) -> np.ndarray:
    """The flat float32 vector of the three that `split` makes.

    Raises ValueError where their lengths are not those of the layout.
    """
    levels, scales, biases = (parts[name] for name in ("levels", "scales", "biases"))
    outputs = sum(out for _, out in layout)
    if (len(levels), len(scales), len(biases)) != (sum(i * o for i, o in layout), outputs, outputs):
        raise ValueError("its vectors differ in length from its layout")
    params = np.empty(len(levels) + len(biases), np.float32)
    of_levels = of_outputs = at = 0
    for inputs, outputs in layout:
        end, channels = at + inputs * outputs, slice(of_outputs, of_outputs + outputs)
        weight = levels[of_levels : of_levels + inputs * outputs].reshape(inputs, outputs)
        params[at:end] = dequantise(weight, scales[channels]).ravel()
        params[end : end + outputs] = biases[channels]
        at, of_levels, of_outputs = end + outputs, of_levels + weight.size, of_outputs + outputs
    return params


def rounded(params: np.ndarray, precision: str, layout: Layout) -> np.ndarray:
    """The flat float32 vector with the values that a file of this precision keeps.

    Raises UserError for a parameter that float16 can't hold, or that is not finite.
    """
    if not np.isfinite(params).all():
        raise UserError("the weights are not all finite, so there is nothing to export")
    if precision == "float32":
        return params
    if precision == "float16":
        with np.errstate(over="ignore"):
            result = params.astype(np.float16).astype(np.float32)
        if not np.isfinite(result).all():
            raise UserError("a weight is too large for float16; choose int8")
        return result
    return join(split(params, layout), layout)


def valid_layout(value: Any) -> bool:
    """Whether a value from a file may be a layer's inputs and outputs."""
    count = integer(1, 2**31)
    return type(value) is list and len(value) == 2 and all(map(count, value))
