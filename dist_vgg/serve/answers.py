"""What a network answers to pictures: its probabilities, what it sees, and its feature maps."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dist_vgg.data.pictures import prepared
from dist_vgg.data.samples import normalise
from dist_vgg.network.sequential import Sequential
from dist_vgg.predict import prediction
from dist_vgg.serve.batching import Batcher
from dist_vgg.state.weights import Weights

PREPARING = 2  # threads; a picture of the most pixels takes half a gigabyte while it is read
AT_ONCE = 32  # images of a batch
BATCH_BYTES = 256 << 20  # of a batch's largest arrays


@dataclass(frozen=True)
class Asked:
    """An image for the network."""

    pixels: np.ndarray  # (size, size, channels) uint8
    maps: bool  # whether the feature maps are wanted


@dataclass(frozen=True)
class FeatureMaps:
    """What a block of the network has made of an image."""

    layer: str  # the block's last convolution
    values: np.ndarray  # (height, width, channels), pooled and rectified


class Answers:
    """Answers to pictures; requests that come together are computed as one batch.

    No bit of an answer depends on the others: kernels of which that can't be said compute one image
    at a time.
    """

    def __init__(self, weights: Weights, net: Sequential) -> None:
        """`net` has the weights, and is used by nobody else."""
        self._weights = weights
        self._net = net
        self._prepare = Batcher(self._prepared, PREPARING, 1)
        self._compute = Batcher(self._computed, 1, images_at_once(net))

    async def answer(self, picture: bytes, seen: bool, maps: bool) -> dict[str, Any]:
        """What is said of a picture in JSON; raises BadPicture where it can't be read."""
        pixels = await self._prepare.result(picture)
        p: np.ndarray | None = None
        found: Sequence[FeatureMaps] = ()
        if pixels is not None:
            p, found = await self._compute.result(Asked(pixels, maps))
        return {
            **prediction(p, self._weights.class_names),
            **({"seen": None if pixels is None else image_fields(pixels)} if seen else {}),
            **({"maps": [map_fields(each) for each in found]} if maps else {}),
        }

    def warm_up(self) -> None:
        """Compile and load all that the first answer would otherwise wait for."""
        for maps in (False, True):
            self._computed([Asked(np.zeros(self._net.input_shape, np.uint8), maps)])

    def _prepared(self, pictures: Sequence[bytes]) -> list[np.ndarray | None]:
        network, preparation = self._weights.network, self._weights.preparation
        size, channels = network["size"], network["channels"]
        return [prepared(each, preparation, size, channels)[1] for each in pictures]

    def _computed(self, batch: Sequence[Asked]) -> list[tuple[np.ndarray, Sequence[FeatureMaps]]]:
        blocks: list[tuple[str, np.ndarray]] = []  # (N,H,W,C) of each
        convolution = ""

        def watch(direction: str, name: str, y: np.ndarray) -> None:
            nonlocal convolution
            if name.startswith("conv"):
                convolution = name
            elif name.startswith("relu") and y.ndim == 4:
                blocks.append((convolution, y))

        pixels = np.stack([each.pixels for each in batch])
        x = normalise(pixels, self._weights.mean, self._weights.std)
        # The bits are the same with and without a watch.
        logits = self._net.forward(x, watch=watch if any(each.maps for each in batch) else None)
        found: list[tuple[np.ndarray, Sequence[FeatureMaps]]] = []
        for i, p in enumerate(self._net.ops.softmax(logits)):
            # Copies, since whoever answers slowly would keep the whole batch.
            maps = [FeatureMaps(name, y[i].copy()) for name, y in blocks if batch[i].maps]
            found.append((p, maps))
        return found


def images_at_once(net: Sequential) -> int:
    """How many images a network computes as one batch."""
    shape, largest = net.input_shape, 0
    for layer in net.layers:
        largest = max(largest, int(np.prod(shape)))
        shape = layer.output_shape(shape)
    room = BATCH_BYTES // (2 * 4 * largest)  # what a layer reads, and what it writes, in float32
    return max(1, min(net.ops.TOGETHER, AT_ONCE, room))


def image_fields(pixels: np.ndarray) -> dict[str, Any]:
    """What the network sees of a picture, in JSON."""
    return {"size": pixels.shape[0], "channels": pixels.shape[2], "pixels": coded(pixels)}


def map_fields(maps: FeatureMaps) -> dict[str, Any]:
    """The feature maps of a block in JSON, in grey levels; 255 is the largest value of them all."""
    values, (height, width, channels) = maps.values, maps.values.shape
    levels = np.rint(values * (255 / max(float(values.max()), 1e-30))).astype(np.uint8)
    place = {"layer": maps.layer, "height": height, "width": width, "channels": channels}
    return {**place, "pixels": coded(levels)}


def coded(array: np.ndarray) -> str:
    """Bytes in base64, as JSON can hold them."""
    return base64.b64encode(array.tobytes()).decode()
