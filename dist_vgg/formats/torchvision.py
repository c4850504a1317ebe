"""The parameters under torchvision's names and in PyTorch's layouts, and back.

torchvision's VGG has features.0.weight to classifier.6.bias. Filters are (out, in, kh, kw) there
and (kh, kw, in, out) here, matrices are (out, in) there and (in, out) here. The inputs of the first
fully connected layer come as (C, H, W) there and as (H, W, C) here.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from dist_vgg.network.layers import Conv, Flatten, Layer, Linear, MaxPool, Shape
from dist_vgg.network.sequential import Sequential, Slot

# The order of our axes there, by how many an array has; and of theirs here.
AXES = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
BACK = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}


@dataclass(frozen=True)
class Parameter:
    """One array of parameters, and what it is on both sides."""

    layer: Layer
    slot: Slot  # its place in our flat vector
    name: str  # torchvision's
    ours: Shape  # here; of the first linear layer's weights (H, W, C, out)
    theirs: Shape

    def find(self, params: np.ndarray) -> np.ndarray:
        """The array in a flat vector of ours, a view of our shape."""
        return params[self.slot.lo : self.slot.hi].reshape(self.ours)

    def convert(self, array: np.ndarray) -> np.ndarray:
        """An array of our shape in torchvision's layout, contiguous; output channels first."""
        return np.ascontiguousarray(array.transpose(AXES[array.ndim]).reshape(self.theirs))

    def convert_back(self, array: np.ndarray) -> np.ndarray:
        """An array of torchvision's shape in our layout."""
        array = array.reshape([self.ours[axis] for axis in AXES[len(self.ours)]])
        return array.transpose(BACK[array.ndim])


def parameters(net: Sequential) -> Iterator[Parameter]:
    """The arrays of parameters in layer order."""
    slots = iter(net.slots)
    shape = net.input_shape
    maps: Shape = ()  # what was flattened, until a linear layer has taken it
    place = {"features": 0, "classifier": 0}
    for layer in net.layers:
        part = "classifier" if isinstance(layer, Linear) else "features"
        for kind in layer.parameter_shapes():
            slot = next(slots)
            unflattened = isinstance(layer, Linear) and maps and not slot.is_bias
            ours = (*maps, slot.shape[1]) if unflattened else slot.shape
            axes = AXES[len(slot.shape)]
            theirs = tuple(slot.shape[axis] for axis in axes)
            yield Parameter(layer, slot, f"{part}.{place[part]}.{kind}", ours, theirs)
        if isinstance(layer, Conv):
            place[part] += 2  # a rectifier follows each convolution
        elif isinstance(layer, MaxPool):
            place[part] += 1
        elif isinstance(layer, Linear):
            place[part] += 3  # a rectifier and dropout follow
        maps = shape if isinstance(layer, Flatten) else () if isinstance(layer, Linear) else maps
        shape = layer.output_shape(shape)


def to_torchvision(net: Sequential, params: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of a flat vector by torchvision's names, contiguous and in its layouts."""
    return {each.name: each.convert(each.find(params)) for each in parameters(net)}


def shapes(net: Sequential) -> dict[str, Shape]:
    """The shapes of the arrays by torchvision's names."""
    return {each.name: each.theirs for each in parameters(net)}


def flat_vector(net: Sequential, array_of: Callable[[str], np.ndarray]) -> np.ndarray:
    """The flat float32 vector of torchvision's arrays; `array_of` has one by its name.

    The arrays must have the names and shapes of `shapes`.
    """
    params = np.empty(net.parameter_count, np.float32)
    for each in parameters(net):
        each.find(params)[...] = each.convert_back(array_of(each.name))
    return params
