"""The learning rate: how it grows with the batch, and how it changes over a run."""

import math
from collections.abc import Callable

from dist_vgg.kernels.arithmetic import NUMPY, Arithmetic

Schedule = Callable[[int], float]  # step, counted from 0, to learning rate


def scaled_lr(lr: float, batch: int, base_batch: int) -> float:
    """The linear scaling rule: k times the batch takes k times the rate.

    `lr` belongs to a batch of `base_batch`; 0 turns the rule off. Goyal et al., "Accurate, large
    minibatch SGD: training ImageNet in 1 hour", 2017.
    """
    return lr * batch / base_batch if base_batch else lr


def schedule(
    kind: str,
    lr: float,
    steps: int,
    warmup: int,
    drops: int = 3,
    arithmetic: Arithmetic = NUMPY,
) -> Schedule:
    """The learning rate over a run of `steps` steps.

    constant   lr
    step       lr, divided by 10 at `drops` - 1 equally distant points
    cosine     from lr to 0 along half a cosine (Loshchilov and Hutter, SGDR, ICLR 2017)

    During the first `warmup` steps the rate rises linearly to what it is then. A constant rate does
    not depend on `steps`, so that such a run can be made longer.
    """
    if kind != "constant":
        warmup = min(warmup, steps)

    def rate(step: int) -> float:
        if step < warmup:
            return lr * (step + 1) / warmup
        done = (step - warmup) / max(1, steps - warmup)
        if kind == "step":
            return lr * arithmetic.power(0.1, min(int(done * drops), drops - 1))
        if kind == "cosine":
            return lr * 0.5 * (1 + arithmetic.cos(math.pi * min(1.0, done)))
        return lr

    return rate
