"""Optimizers are arithmetic on slices of one flat vector; schedules are functions step -> lr.

Every operation is element by element, so the result does not depend on how the vector is
cut or on which rank updates which slice.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

AVERAGE = "average"  # name of the vector that `follow` moves


class Optimizer(Protocol):
    """Updates parameters in place, from their gradient and a state of equally long vectors."""

    state_names: ClassVar[tuple[str, ...]]

    def update(
        self,
        w: np.ndarray,
        g: np.ndarray,
        state: tuple[np.ndarray, ...],
        lr: float,
        step: int,
        decay: float,
    ) -> None:
        """Take one step on a slice; g is used up.

        `step` counts from 1. `decay` is the L2 penalty's factor: decay * w joins the gradient.
        """
        ...


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum, and Nesterov's look ahead if wanted.

    v = momentum v + g;  w -= lr v, or lr (g + momentum v).
    Sutskever et al., "On the importance of initialization and momentum", ICML 2013.
    """

    momentum: float = 0.9
    nesterov: bool = False
    state_names: ClassVar[tuple[str, ...]] = ("momentum",)

    def update(
        self,
        w: np.ndarray,
        g: np.ndarray,
        state: tuple[np.ndarray, ...],
        lr: float,
        step: int,
        decay: float,
    ) -> None:
        (v,) = state
        if decay:
            g += decay * w
        v *= self.momentum
        v += g
        if self.nesterov:
            g += self.momentum * v
            w -= lr * g
        else:
            w -= lr * v


@dataclass(frozen=True)
class Adam:
    """Adam, with bias correction (Kingma and Ba, ICLR 2015)."""

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    state_names: ClassVar[tuple[str, ...]] = ("mean", "square")

    def update(
        self,
        w: np.ndarray,
        g: np.ndarray,
        state: tuple[np.ndarray, ...],
        lr: float,
        step: int,
        decay: float,
    ) -> None:
        mean, square = state
        if decay:
            g += decay * w
        mean *= self.beta1
        mean += (1 - self.beta1) * g
        square *= self.beta2
        g *= g
        square += (1 - self.beta2) * g
        scale = np.sqrt(square)
        scale *= 1 / math.sqrt(1 - self.beta2**step)
        scale += self.eps
        w -= (lr / (1 - self.beta1**step)) * (mean / scale)


@dataclass(frozen=True)
class AdaGrad:
    """AdaGrad: each rate falls with the root of its squared gradients' sum.

    Duchi, Hazan and Singer, "Adaptive subgradient methods", JMLR 12 (2011).
    """

    eps: float = 1e-10
    state_names: ClassVar[tuple[str, ...]] = ("square",)

    def update(
        self,
        w: np.ndarray,
        g: np.ndarray,
        state: tuple[np.ndarray, ...],
        lr: float,
        step: int,
        decay: float,
    ) -> None:
        (square,) = state
        if decay:
            g += decay * w
        square += g * g
        w -= lr * (g / (np.sqrt(square) + self.eps))


def follow(average: np.ndarray, w: np.ndarray, decay: float, step: int) -> None:
    """Move an exponential moving average of the parameters towards them, in place.

    `step` counts from 1. At first the decay is lower, (1 + step) / (10 + step), so that the
    start is soon forgotten. Polyak and Juditsky, "Acceleration of stochastic approximation by
    averaging", SIAM J. Control Optim. 30 (1992), is the averaging that this one is a form of.
    """
    average += np.float32(1 - min(decay, (1 + step) / (10 + step))) * (w - average)


Schedule = Callable[[int], float]  # step, counted from 0, to learning rate


def scaled_lr(lr: float, batch: int, base_batch: int) -> float:
    """The linear scaling rule: k times the batch, k times the rate (Goyal et al., 2017)."""
    return lr * batch / base_batch if base_batch else lr


def schedule(kind: str, lr: float, steps: int, warmup: int, drops: int = 3) -> Schedule:
    """The learning rate over a run of `steps` steps.

    constant   lr
    step       lr, divided by 10 at `drops` - 1 equally distant points
    cosine     from lr to 0 along half a cosine (Loshchilov and Hutter, SGDR, ICLR 2017)

    During the first `warmup` steps the rate rises in a line to what it then is. A constant
    rate does not depend on `steps`, so that such a run can be made longer.
    """
    if kind != "constant":
        warmup = min(warmup, steps)

    def rate(step: int) -> float:
        if step < warmup:
            return lr * (step + 1) / warmup
        done = (step - warmup) / max(1, steps - warmup)
        if kind == "step":
            return lr * 0.1 ** min(int(done * drops), drops - 1)
        if kind == "cosine":
            return lr * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        return lr

    return rate
