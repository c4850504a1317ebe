"""A model is a network with its parameters: what it predicts, what its layers see, how it scores.

Its numbers are those of the evaluate command: images go through in batches of 32, with one BLAS
thread, since other batches and other threads round differently.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

from dist_vgg.api.dataset import Dataset, as_images
from dist_vgg.base.command_line import nearest
from dist_vgg.base.errors import UserError
from dist_vgg.data.samples import normalise
from dist_vgg.data.set_info import SetInfo
from dist_vgg.formats.trained import load_network, read_trained, round_weights
from dist_vgg.kernels.protocol import Kernels
from dist_vgg.kernels.sets import AUTO
from dist_vgg.mpi.collectives import collective_errors
from dist_vgg.network.vgg import VGG16
from dist_vgg.state.checksums import parameter_digest
from dist_vgg.state.precision import PRECISIONS
from dist_vgg.state.weights import FLOAT32, Weights, save_weights
from dist_vgg.training.scoring import Score, batch_size, score, shifts_by

if TYPE_CHECKING:
    from mpi4py import MPI


class Model:
    """A network with its parameters, and what its input has to be. `fit` and `load` make one."""

    average: "Model | None" = None  # the moving average of the weights, after fit with ema
    best: "Model | None" = None  # the best on held-out images, after fit with validate

    def __init__(self, weights: Weights, kernels: str | Kernels = AUTO) -> None:
        """The parameters are used where they are, not copied; their SHA-256 is taken when asked.

        `kernels` compute the network: a name as --kernels takes it, or a set.
        """
        self._weights = weights
        self._net = load_network(weights, kernels)

    def __repr__(self) -> str:
        of = self._weights.network
        return (
            f"<Model {of.get('name', VGG16).upper()} {of['size']}x{of['size']}x{of['channels']}, "
            f"width {of['width']:g}, {of['classes']} classes, "
            f"{self.params.size:,} parameters, step {self.step}>"
        )

    @property
    def params(self) -> np.ndarray:
        """All parameters as one flat float32 vector, in layer order."""
        return self._weights.params

    @property
    def step(self) -> int:
        """The optimizer's steps that have made the parameters."""
        return self._weights.step

    @property
    def sha256(self) -> str:
        """SHA-256 of the parameters, as the train command prints it."""
        return parameter_digest(self.params)

    @property
    def layers(self) -> list[str]:
        """The names of the layers, from the images to the logits."""
        return [layer.name for layer in self._net.layers]

    def parameters(self) -> dict[str, np.ndarray]:
        """Views of the parameters by name: conv1_1.weight is (3, 3, in, out), fc6.bias (out,)."""
        slots = self._net.slots
        return {slot.name: self.params[slot.lo : slot.hi].reshape(slot.shape) for slot in slots}

    def logits(self, images: ArrayLike) -> np.ndarray:
        """The network's outputs, before softmax: (N, classes) float32.

        `images` is (N, side, side) or (N, side, side, channels) uint8. Raises UserError for images
        that the network was not made for.
        """
        return self.features(images, self.layers[-1])

    def probabilities(self, images: ArrayLike) -> np.ndarray:
        """The probability of each class: (N, classes) float32, the softmax of the logits."""
        return self._net.ops.softmax(self.logits(images))

    def predict(self, images: ArrayLike) -> np.ndarray:
        """The most probable class of each image: (N,) integers."""
        return self.logits(images).argmax(axis=1)

    def features(self, images: ArrayLike, layer: str) -> np.ndarray:
        """What a layer makes of the images: (N, height, width, channels), or (N, units) float32.

        `layers` has the names. A convolution's output is rectified, but for the last of a block:
        that one's rectifier is `relu1` to `relu5`, after the pooling.
        """
        if layer not in self.layers:
            raise UserError(
                f"no layer {layer}{nearest(layer, self.layers)}; model.layers has the names"
            )
        pixels = as_images(images)
        size, channels = (self._weights.network[name] for name in ("size", "channels"))
        if pixels.shape[1:] != (size, size, channels):
            found = "x".join(map(str, pixels.shape[1:]))
            raise UserError(
                f"the images are {found} and the network takes {size}x{size}x{channels}"
            )
        count = batch_size(self._net)
        with _one_thread():
            return np.concatenate(
                [
                    self._up_to(layer, pixels[start : start + count])
                    for start in range(0, len(pixels), count)
                ]
            )

    def score(
        self, dataset: Dataset, *, shifts: int = 0, comm: "MPI.Intracomm | None" = None
    ) -> Score:
        """How well the network does on a data set: accuracy, loss and confusion matrix.

        With `shifts` the probabilities are averaged over each image and eight shifts of it by so
        many pixels. With a communicator each rank scores its shards, and all get the same score.
        """
        from mpi4py import MPI

        comm = MPI.COMM_SELF if comm is None else comm
        info, network = dataset.info, self._weights.network
        with collective_errors(comm):
            check_fits(info, **{name: network[name] for name in ("size", "channels", "classes")})
            if not 0 <= shifts < info.size:
                raise UserError(f"shifts={shifts} is out of range; give 0 to {info.size - 1}")
            shards = dataset.local(comm.size, comm.rank)
        mean, std = self._weights.mean, self._weights.std
        with _one_thread():
            return score(self._net, shards, mean, std, network["classes"], comm, shifts_by(shifts))

    def copy(self) -> "Model":
        """A model with parameters of its own: what a callback of `fit` may keep."""
        return Model(replace(self._weights, params=self.params.copy()), self._net.ops)

    def save(self, path: str | Path, *, precision: str = "float32") -> None:
        """Write the parameters as a file of weights, which `load` and the commands read.

        A `precision` of float16 or int8 rounds them and takes a half or a quarter of the bytes.
        Raises UserError for another one, and for parameters that it can't hold.
        """
        if precision not in PRECISIONS:
            raise UserError(f"no precision {precision}; choose one of {', '.join(PRECISIONS)}")
        weights = replace(self._weights, sha256=self.sha256, **FLOAT32)
        if precision != "float32":
            weights = round_weights(weights, self._net, precision)
        save_weights(Path(path), weights)

    def _up_to(self, layer: str, pixels: np.ndarray) -> np.ndarray:
        """One batch, through the layers up to one of them."""
        x = normalise(pixels, self._weights.mean, self._weights.std)
        for each in self._net.layers:
            x = each.forward(x, None)
            if each.name == layer:
                break
        return x


def load(path: str | Path, *, kernels: str = AUTO) -> Model:
    """Load a model from a file of weights, or from the folder of a run, which has weights.h5.

    `kernels` compute it, as --kernels of the commands; those that trained it need not be here.
    Raises UserError for a file that is missing, damaged or something else, and for kernels that
    are not installed.
    """
    return Model(read_trained(path), kernels)


def check_fits(info: SetInfo, size: int, channels: int, classes: int) -> None:
    """Raise UserError where a data set has images or labels that a network was not made for."""
    if (info.size, info.channels) != (size, channels):
        raise UserError(
            f"the images are {info.size}x{info.size}x{info.channels} and the network takes "
            f"{size}x{size}x{channels}"
        )
    if info.classes > classes:
        raise UserError(f"the images are of {info.classes} classes and the network knows {classes}")


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let BLAS use one thread, as the commands do, and afterwards what it used before."""
    with threadpool_limits(1, user_api="blas"):
        yield
