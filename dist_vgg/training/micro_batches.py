"""What the local shards contribute to a step: micro-batches, their losses and gradients."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from dist_vgg.data.batches import Batches, Prefetcher
from dist_vgg.data.samples import Samples, joined, normalise
from dist_vgg.data.set_info import SetInfo
from dist_vgg.mpi.collectives import allgather_text
from dist_vgg.network.layers import Layer, StepKey
from dist_vgg.network.sequential import Sequential
from dist_vgg.runs.clock import Clock
from dist_vgg.runs.config import TrainConfig
from dist_vgg.training.debug import LayerMonitor, first_nonfinite

if TYPE_CHECKING:
    from mpi4py import MPI

    from dist_vgg.exchange.protocol import Exchange


def following(
    branch: Sequence[int], local: Sequence[Sequence[int]], step: int, steps: int
) -> tuple[Sequence[int], int] | None:
    """The branch and step of the micro-batches behind those of a branch in a step; None at the end.

    `local` are the branches of this rank, in the order in which a step takes them.
    """
    if branch != local[-1]:
        return local[local.index(branch) + 1], step
    return (local[0], step + 1) if step + 1 < steps else None


class MicroBatches:
    """Reads micro-batches ahead of their turn, and computes their part of the gradient.

    Those of the shards of one branch run together, see `Exchange.branches`.
    """

    def __init__(
        self, net: Sequential, batches: Batches, config: TrainConfig, info: SetInfo, clock: Clock
    ) -> None:
        self.monitor: LayerMonitor | None = None  # in debug mode sees all that a layer makes
        self.read = Prefetcher(self._read)
        self._net, self._batches, self._config, self._info = net, batches, config, info
        self._clock, self._arithmetic = clock, net.ops.ARITHMETIC

    def _read(self, branch: Sequence[int], step: int) -> tuple[list[Samples], np.ndarray]:
        """Micro-batches, and their images together, as the network takes them."""
        parts = [self._batches.micro_batch(shard, step) for shard in branch]
        samples, augment = joined(parts), self._config.augment
        pixels = samples.pixels
        if augment:
            epoch, _ = self._batches.position(step)
            pixels = augment.draw(pixels, samples.ids, self._config.seed, epoch, self._arithmetic)
        return parts, normalise(pixels, self._info.mean, self._info.std)

    def gradient(
        self, parts: Sequence[Samples], x: np.ndarray, step: int, total: int, route: "Exchange"
    ) -> tuple[list[float], list[int]]:
        """Write micro-batches' part of the gradient to the route; of each its loss, how many right.

        `total` is the number of samples in the global batch, by which the gradient is divided.
        """
        grad = route.gradient()
        counts = [len(part) for part in parts]
        if not sum(counts):
            grad[: route.partition.tail] = 0
            return [0.0 for _ in parts], counts
        samples = joined(parts)
        self._net.bind(route.params, grad)
        key = StepKey(self._config.seed, step, samples.ids, counts)
        need = partial(self._need, route)
        logits = self._net.forward(x, key, self.monitor, need, self._done)
        smoothing = self._config.label_smoothing
        losses, dlogits = self._net.ops.cross_entropy(logits, samples.labels, total, smoothing)
        factors = partial(route.factors, counts) if route.factors else None
        self._net.backward(dlogits, route.ready, self.monitor, self._done, factors)
        right = logits.argmax(axis=1) == samples.labels
        each = [
            slice(end - count, end) for end, count in zip(np.cumsum(counts), counts, strict=True)
        ]
        summed = [float(self._arithmetic.total(losses[part])) for part in each]
        return summed, [int(right[part].sum()) for part in each]

    def _need(self, route: "Exchange", lo: int, hi: int) -> None:
        """Wait for parameters, which is no part of computing."""
        route.need(lo, hi)
        self._clock.mark("exchange")

    def _done(self, direction: str, layer: Layer) -> None:
        """Count a layer's time."""
        self._clock.mark(f"{direction} {layer.kind}")

    def first_nonfinite(self, step: int, route: "Exchange", comm: "MPI.Intracomm") -> str:
        """Name the layer and rank of the first number that is not finite, on every rank."""
        found = ""
        for shard in route.local_shards:
            # The parameters are still those that the step began with, so it can be repeated.
            (samples,), x = self.read((shard,), step)
            if len(samples) and not found:
                grad = np.empty_like(route.params)
                self._net.bind(route.params, grad)
                key = StepKey(self._config.seed, step, samples.ids)
                found = first_nonfinite(self._net, grad, x, samples.labels, key)
        places = allgather_text(comm, found)
        first = next((f"{text} on rank {r}" for r, text in enumerate(places) if text), "the sum")
        return (
            f"NaN or Inf first seen in {first}; lower --lr, lengthen --warmup, or look closer with "
            "--debug"
        )
