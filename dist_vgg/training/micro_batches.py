"""What each local shard contributes to a step: a micro-batch, its loss and its gradient."""

from typing import TYPE_CHECKING

import numpy as np

from dist_vgg.data.batches import Batches, Prefetcher
from dist_vgg.data.samples import Samples, normalise
from dist_vgg.data.set_info import SetInfo
from dist_vgg.mpi.collectives import allgather_text
from dist_vgg.network.layers import StepKey
from dist_vgg.network.sequential import Sequential
from dist_vgg.runs.clock import Clock
from dist_vgg.runs.config import TrainConfig
from dist_vgg.training.debug import LayerMonitor, first_nonfinite

if TYPE_CHECKING:
    from mpi4py import MPI

    from dist_vgg.exchange.protocol import Exchange


class MicroBatches:
    """Reads a shard's micro-batch ahead of its turn, and computes its part of the gradient."""

    def __init__(
        self,
        net: Sequential,
        batches: Batches,
        config: TrainConfig,
        info: SetInfo,
        clock: Clock,
    ) -> None:
        self.monitor: LayerMonitor | None = None  # in debug mode sees all that a layer makes
        self.read = Prefetcher(self._read)
        self._net, self._batches, self._config, self._info = net, batches, config, info
        self._clock, self._arithmetic = clock, net.ops.ARITHMETIC
        self._kinds = {layer.name: layer.kind for layer in net.layers}

    def _read(self, shard: int, step: int) -> tuple[Samples, np.ndarray]:
        """A micro-batch, and its images as the network takes them."""
        samples, augment = self._batches.micro_batch(shard, step), self._config.augment
        pixels = samples.pixels
        if augment:
            epoch, _ = self._batches.position(step)
            pixels = augment.draw(pixels, samples.ids, self._config.seed, epoch, self._arithmetic)
        return samples, normalise(pixels, self._info.mean, self._info.std)

    def gradient(
        self, samples: Samples, x: np.ndarray, step: int, total: int, route: "Exchange"
    ) -> tuple[float, int]:
        """Write a micro-batch's part of the gradient to the route; its summed loss, how many right.

        `total` is the number of samples in the global batch, by which the gradient is divided.
        """
        grad = route.gradient()
        if not len(samples):
            grad[:] = 0
            return 0.0, 0
        self._net.bind(route.params, grad)
        key = StepKey(self._config.seed, step, samples.ids)
        logits = self._net.forward(x, key, self._watch, route.need)
        smoothing = self._config.label_smoothing
        losses, dlogits = self._net.ops.cross_entropy(logits, samples.labels, total, smoothing)
        self._net.backward(dlogits, route.ready, self._watch)
        # The first layer has no gradient by its input, and so none to be watched.
        self._clock.mark(f"backward {self._net.layers[0].kind}")
        right = int((logits.argmax(axis=1) == samples.labels).sum())
        return float(self._arithmetic.total(losses)), right

    def _watch(self, direction: str, layer: str, array: np.ndarray) -> None:
        """Count a layer's time, and let debug mode see what the layer has made."""
        self._clock.mark(f"{direction} {self._kinds[layer]}")
        if self.monitor:
            self.monitor(direction, layer, array)

    def first_nonfinite(self, step: int, route: "Exchange", comm: "MPI.Intracomm") -> str:
        """Name the step, layer and rank of the first number that is not finite, on every rank."""
        found = ""
        for shard in route.local_shards:
            # The parameters are still those that the step began with, so it can be repeated.
            samples, x = self.read(shard, step)
            if len(samples) and not found:
                grad = route.gradient()
                self._net.bind(route.params, grad)
                key = StepKey(self._config.seed, step, samples.ids)
                found = first_nonfinite(self._net, grad, x, samples.labels, key)
        places = allgather_text(comm, found)
        first = next((f"{text} on rank {r}" for r, text in enumerate(places) if text), "the sum")
        return (
            f"step {step + 1}: NaN or Inf first seen in {first}; lower --lr, "
            "lengthen --warmup, or look closer with --debug"
        )
