"""A trained network: read from whichever file holds it, ready to compute, or rounded to travel."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dist_vgg.base.errors import UserError
from dist_vgg.kernels.protocol import Kernels
from dist_vgg.kernels.sets import AUTO
from dist_vgg.network.sequential import Sequential
from dist_vgg.network.vgg import vgg
from dist_vgg.state.checksums import parameter_digest
from dist_vgg.state.precision import rounded
from dist_vgg.state.weights import Weights, load_weights, weights_in

SUFFIXES = (".h5", ".safetensors")  # of the files that hold a trained network
MODEL = "model.safetensors"  # in a folder that export wrote
# The network that is installed with the package; docs/guides/deploy.md says how it was made.
SHIPPED = Path(__file__).parents[1] / "shipped" / "digits.h5"


def read_trained(path: str | Path) -> Weights:
    """Read the weights of a folder of a run or an export, of a file, or of a safetensors file.

    Raises UserError for a file that is missing, damaged or something else.
    """
    path = trained_in(Path(path))["weights"]
    if path.suffix == ".safetensors":
        from dist_vgg.formats.safetensors import read_safetensors

        return read_safetensors(path)
    return load_weights(path)


def trained_in(path: Path) -> dict[str, Path]:
    """The files of trained networks in a folder, by what they are; "weights" first.

    The folder is a run's, or one that export wrote. A file stands for itself, as "weights".
    """
    files, exported = weights_in(path), path / MODEL
    if exported.exists() and not files["weights"].exists():
        return {"weights": exported}
    return files


def is_trained(path: Path) -> bool:
    """Whether a path is meant as a trained network: a folder, or a file named as such."""
    return path.is_dir() or path.suffix in SUFFIXES


def takes_pictures(weights: Weights) -> bool:
    """Whether the network's input can be made of a picture: data_prep has prepared grey or RGB."""
    channels = weights.network["channels"]
    return channels == 1 or (channels == 3 and weights.preparation != "digit")


def load_network(weights: Weights, kernels: str | Kernels = AUTO) -> Sequential:
    """The network that the weights belong to, ready for forward passes.

    It computes with `kernels`, whatever the weights were trained with. Raises UserError where the
    set is not installed, or the number of weights does not fit the network that they name.
    """
    net = vgg(**weights.network, dropout=0, kernels=kernels)
    if weights.params.shape != (net.parameter_count,):
        raise UserError(
            f"the weights hold {weights.params.size} parameters and their network has "
            f"{net.parameter_count}; name another file"
        )
    net.bind(weights.params, weights.params)
    return net


def round_weights(weights: Weights, net: Sequential, precision: str) -> Weights:
    """The weights with every parameter rounded as a file of this precision keeps it.

    `net` is their network. Raises UserError for parameters that the precision can't hold.
    """
    layout = matrices(net)
    params = rounded(weights.params, precision, layout)
    made_from = weights.made_from
    if precision != "float32" and not made_from:
        made_from = parameter_digest(weights.params)
    return replace(
        weights,
        params=params,
        sha256=parameter_digest(params),
        precision=precision,
        made_from=made_from,
        layout=layout if precision == "int8" else (),
    )


def matrices(net: Sequential) -> Sequence[tuple[int, int]]:
    """The inputs and outputs of each layer's weights; filters of 3x3 have 9 inputs a channel."""
    return [(slot.fan_in, slot.shape[-1]) for slot in net.slots if not slot.is_bias]
