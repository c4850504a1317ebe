"""VGG16 and its family: their layers, and the values that their parameters start with.

Simonyan and Zisserman, "Very deep convolutional networks for large-scale image
recognition", ICLR 2015, Table 1.
"""

import numpy as np

from dist_vgg.base.errors import UserError
from dist_vgg.base.random import generator
from dist_vgg.kernels.protocol import Kernels
from dist_vgg.kernels.sets import load
from dist_vgg.network.layers import Conv, Dropout, Flatten, Layer, Linear, MaxPool, ReLU
from dist_vgg.network.sequential import Sequential

# Filters of the 3x3 convolutions in each block; a 2x2 max-pool closes the block. The paper calls
# these configurations A, B, D and E. Whoever adds one here adds its name to runs/config.py.
BLOCKS: dict[str, tuple[tuple[int, ...], ...]] = {
    "vgg11": ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    "vgg13": ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512)),
    "vgg16": ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
    "vgg19": ((64, 64), (128, 128), 4 * (256,), 4 * (512,), 4 * (512,)),
}
VGG16 = "vgg16"  # what a network is that has no name: files of earlier versions knew one only
HIDDEN = (4096, 4096)
STRIDE = 32  # the side of an image must be a multiple of this: five poolings halve it


def vgg16(
    size: int = 64,
    channels: int = 1,
    classes: int = 10,
    width: float = 1.0,
    dropout: float = 0.5,
    kernels: str | Kernels = "numpy",
) -> Sequential:
    """Build VGG16; the arguments are those of `vgg`."""
    return vgg(VGG16, size, channels, classes, width, dropout, kernels)


def vgg(
    name: str = VGG16,
    size: int = 64,
    channels: int = 1,
    classes: int = 10,
    width: float = 1.0,
    dropout: float = 0.5,
    kernels: str | Kernels = "numpy",
) -> Sequential:
    """Build a network of the family for images of side `size`; `width` scales all hidden widths.

    `name` is one of BLOCKS. `kernels` is the set that it computes with, or the name of one, see
    kernels/sets.py. Raises UserError for another name, and for kernels that are not installed.
    """
    if name not in BLOCKS:
        raise UserError(f"no network {name}; choose one of {', '.join(BLOCKS)}")

    def scaled(units: int) -> int:
        return max(1, round(units * width))

    layers: list[Layer] = []
    inputs = channels
    for block, filters in enumerate(BLOCKS[name], start=1):
        for i, outputs in enumerate(map(scaled, filters), start=1):
            # The rectifier of a block's last convolution comes after the pooling: that gives the
            # same numbers, with a quarter of the work.
            relu = i < len(filters)
            # Nobody needs the gradient of the images.
            need_dx = bool(layers)
            layers.append(Conv(f"conv{block}_{i}", inputs, outputs, relu, need_dx))
            inputs = outputs
        layers.append(MaxPool(f"pool{block}"))
        layers.append(ReLU(f"relu{block}"))
    layers.append(Flatten("flatten"))
    inputs *= (size // 2 ** len(BLOCKS[name])) ** 2
    for i, outputs in enumerate(map(scaled, HIDDEN), start=6):
        layers.append(Linear(f"fc{i}", inputs, outputs))
        layers.append(ReLU(f"relu{i}"))
        layers.append(Dropout(f"drop{i}", dropout))
        inputs = outputs
    layers.append(Linear("fc8", inputs, classes))
    ops = load(kernels) if isinstance(kernels, str) else kernels
    return Sequential(layers, (size, size, channels), ops)


def initialise(
    net: Sequential, params: np.ndarray, seed: int, part: int = 0, parts: int = 1
) -> None:
    """Fill the flat vector with normal weights and zero biases; each array has a random stream.

    Where several share the work, each fills the arrays of its `part`.

    A standard deviation of sqrt(2/fan_in) keeps the variance through rectifiers (He et al.,
    "Delving deep into rectifiers", ICCV 2015). That of the last layer is 0.01, as in the VGG paper,
    so that the first predictions are nearly uniform and the first gradients small.
    """
    last, arithmetic = net.slots[-2].name, net.ops.ARITHMETIC
    loads = [0] * parts
    for slot in sorted(net.slots, key=lambda slot: slot.lo - slot.hi):  # the largest first
        taker = loads.index(min(loads))
        loads[taker] += slot.hi - slot.lo
        if taker != part:
            continue
        view = params[slot.lo : slot.hi]
        if slot.is_bias:
            view[:] = 0
            continue
        deviation = 0.01 if slot.name == last else arithmetic.power(2 / slot.fan_in, 0.5)
        arithmetic.normal([generator(seed, f"init/{slot.name}")], view[None])
        view *= view.dtype.type(deviation)
