"""Optimizers: SGD with momentum, Adam, AdaGrad, and the moving average of the parameters.

Each updates a slice of the flat vector of parameters, by kernels/rules.py. Every operation works
element by element, so the result does not depend on how the vector is cut, or on which rank updates
which slice.

In the formulas w are the parameters, g their gradient, and t the step, counted from 1.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Protocol

import numpy as np

from dist_vgg.kernels.arithmetic import NUMPY, Arithmetic

AVERAGE = "average"  # name of the vector that `update_average` moves


class Optimizer(Protocol):
    """Updates parameters in place from their gradient, with a state of vectors of their length."""

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
        """Take one step on a slice.

        `decay` is the factor of the L2 penalty: decay * w is added to the gradient.
        """
        # w, g and each vector of state are (n,)
        ...


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum, and with Nesterov's look ahead if it is set.

        v = momentum v + g
        w = w - lr v                            with Nesterov  w - lr (g + momentum v)

    Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum in deep
    learning", ICML 2013.
    """

    momentum: float = 0.9
    nesterov: bool = False
    arithmetic: Arithmetic = NUMPY
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
        self.arithmetic.sgd(w, g, v, lr, self.momentum, decay, self.nesterov)


@dataclass(frozen=True)
class Adam:
    """Adam: the gradient's running mean m over the root of its running mean square v.

        m = beta1 m + (1 - beta1) g
        v = beta2 v + (1 - beta2) g^2
        w = w - lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)

    Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    arithmetic: Arithmetic = NUMPY
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
        m, v = state
        mean_left, square_left = self._left(step)
        rate, scale = lr / (1 - mean_left), 1 / math.sqrt(1 - square_left)
        self.arithmetic.adam(w, g, m, v, rate, self.beta1, self.beta2, scale, self.eps, decay)

    # A step updates hundreds of slices, and all of them ask.
    @lru_cache(maxsize=1)  # noqa: B019
    def _left(self, step: int) -> tuple[float, float]:
        """How much of their zero start m and v still have: beta1^t and beta2^t."""
        return self.arithmetic.power(self.beta1, step), self.arithmetic.power(self.beta2, step)


@dataclass(frozen=True)
class AdaGrad:
    """AdaGrad: the rate of each parameter falls with the root of its summed squared gradients.

        v = v + g^2
        w = w - lr g / (sqrt(v) + eps)

    Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and stochastic
    optimization", JMLR 12 (2011).
    """

    eps: float = 1e-10
    arithmetic: Arithmetic = NUMPY
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
        (v,) = state
        self.arithmetic.adagrad(w, g, v, lr, self.eps, decay)


def update_average(
    average: np.ndarray, w: np.ndarray, decay: float, step: int, arithmetic: Arithmetic = NUMPY
) -> None:
    """Move an exponential moving average (EMA) of the parameters towards them, in place.

        average = d average + (1 - d) w         with d = min(decay, (1 + t) / (10 + t)),

    which is low at first, so that the average soon forgets the start. It is a form of the averaging
    of Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", SIAM J. Control
    Optim. 30 (1992).
    """
    # average and w are (n,)
    arithmetic.move_average(average, w, 1 - min(decay, (1 + step) / (10 + step)))
