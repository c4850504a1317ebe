"""A pretrained network: VGG16 with the weights that a run has left."""

from dist_vgg.base.errors import UserError
from dist_vgg.kernels.protocol import Kernels
from dist_vgg.kernels.sets import AUTO
from dist_vgg.network.sequential import Sequential
from dist_vgg.network.vgg import vgg16
from dist_vgg.state.checkpoint import Weights


def load_network(weights: Weights, kernels: str | Kernels = AUTO) -> Sequential:
    """The network that the weights belong to, ready for forward passes.

    It computes with `kernels`, whatever the weights were trained with. Raises UserError where the
    set is not installed, or the number of weights does not fit the network that they name.
    """
    net = vgg16(**weights.network, dropout=0, kernels=kernels)
    if weights.params.shape != (net.parameter_count,):
        raise UserError(
            f"the weights hold {weights.params.size} parameters and their network has "
            f"{net.parameter_count}; name another file"
        )
    net.bind(weights.params, weights.params)
    return net
