"""The optimizer's step on the slices of the parameters that this rank owns (ZeRO, stage 1)."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from dist_vgg.kernels.arithmetic import NUMPY, Arithmetic
from dist_vgg.network.sequential import Slot
from dist_vgg.runs.config import TrainConfig
from dist_vgg.state.checksums import GRADIENT, PARAMETERS
from dist_vgg.training import optim
from dist_vgg.training.optim import AVERAGE, Optimizer

if TYPE_CHECKING:
    from dist_vgg.exchange.protocol import Exchange

UPDATE_SLICE = 1 << 16  # numbers updated at a time, so that temporaries stay in cache
Block = tuple[int, int, list[tuple[slice, float]]]  # lo, hi, and each part's weight decay


def make_optimizer(config: TrainConfig, arithmetic: Arithmetic = NUMPY) -> Optimizer:
    """The update rule that a configuration names."""
    if config.optimizer == "adam":
        return optim.Adam(beta1=config.momentum, arithmetic=arithmetic)
    if config.optimizer == "adagrad":
        return optim.AdaGrad(arithmetic=arithmetic)
    return optim.SGD(config.momentum, config.nesterov, arithmetic)


class Update:
    """Clips the summed gradient, takes the optimizer's step, and moves the average of the weights.

    `state_names` are the vectors that it keeps besides the parameters.
    """

    def __init__(
        self, config: TrainConfig, slots: Sequence[Slot], arithmetic: Arithmetic = NUMPY
    ) -> None:
        """`slots` say where the flat vector has weights, which decay, and where biases."""
        self.optimizer = make_optimizer(config, arithmetic)
        self.state_names = (*self.optimizer.state_names, *([AVERAGE] if config.ema else []))
        self.before_update: Callable[[np.ndarray], object] = lambda params: None
        self._config, self._slots, self._arithmetic = config, slots, arithmetic
        self._blocks: list[Block] | None = None

    def __call__(self, route: "Exchange", lr: float, norm: float, step: int) -> None:
        """Update what this rank owns, into the replica's other copy; `step` counts from 1.

        `norm` is that of the whole gradient, before it is clipped.
        """
        clip, audit = self._config.clip, route.audit
        scale = np.float32(clip / norm) if clip and norm > clip else None
        self.before_update(route.params)
        before = (route.params, *route.state.values())
        route.replica.swap()
        after = dict(
            zip((PARAMETERS, *self.state_names), (route.params, *route.state.values()), strict=True)
        )
        if self._blocks is None:
            self._blocks = self._cut(route)
        for lo, hi, parts in self._blocks:
            for vector, (name, new) in zip(before, after.items(), strict=True):
                if new is not vector:
                    new[lo:hi] = vector[lo:hi]
                if audit:
                    audit.check(name, new, lo, hi)
            if audit:
                audit.check(GRADIENT, route.total, lo, hi)
            for where, decay in parts:
                g = route.total[where] if scale is None else route.total[where] * scale
                w, *state = (vector[where] for vector in after.values())
                self._step(w, g, state, lr, step, decay)
            if audit:
                for name, new in after.items():
                    audit.note(name, new, lo, hi)

    def _step(
        self, w: np.ndarray, g: np.ndarray, state: list[np.ndarray], lr: float, step: int,
        decay: float,
    ) -> None:  # fmt: skip
        average = state.pop() if self._config.ema else None
        self.optimizer.update(w, g, tuple(state), lr, step, decay)
        if average is not None:
            optim.update_average(average, w, self._config.ema, step, self._arithmetic)

    def _cut(self, route: "Exchange") -> list[Block]:
        """All that this rank owns, a block at a time; cut where layers begin, for weight decay."""
        edges = sorted({edge for slot in self._slots for edge in (slot.lo, slot.hi)})
        weights = [slot for slot in self._slots if not slot.is_bias]
        size = max(UPDATE_SLICE, route.partition.grain)  # both are powers of 2
        blocks = []
        for start, end in route.owned:
            for lo in range(start, end, size):
                hi = min(lo + size, end)
                parts = []
                for a, b in pairwise(sorted({lo, hi, *(e for e in edges if lo < e < hi)})):
                    decays = any(slot.lo <= a < slot.hi for slot in weights)
                    parts.append((slice(a, b), self._config.weight_decay * decays))
                blocks.append((lo, hi, parts))
        return blocks
