"""Operations (FLOP) of a layer and of a network, for one image.

They are those of the direct convolution, two for each multiply-add, whatever kernel computes it.
"""

from math import prod

from dist_vgg.network.layers import Layer, Shape
from dist_vgg.network.sequential import Sequential


def layer_flops(layer: Layer, output: Shape) -> tuple[int, int]:
    """Operations of a layer, forward and backward, from the shape of its output.

    Backward makes two products of the forward's size, or one where nobody needs the gradient of
    the input.
    """
    weight = layer.parameter_shapes().get("weight", (0,))
    forward = 2 * prod(weight) * prod(output[:-1])
    return forward, forward * (2 if getattr(layer, "need_dx", True) else 1)


def network_flops(net: Sequential) -> tuple[int, int]:
    """Operations of a network, forward and backward."""
    shape, forward, backward = net.input_shape, 0, 0
    for layer in net.layers:
        shape = layer.output_shape(shape)
        layer_forward, layer_backward = layer_flops(layer, shape)
        forward, backward = forward + layer_forward, backward + layer_backward
    return forward, backward
