"""Passes over whole vectors: `ordered.squares` and rules.py, compiled, with their bits."""

from dataclasses import replace

import numpy as np

from dist_vgg.kernels.arithmetic import EXACT
from dist_vgg.kernels.machine_code import Function
from dist_vgg.kernels.passes.sizes import SQUARES

sgd_pass, adam_pass, adagrad_pass, average_pass = (
    Function(f"dist_vgg.kernels.passes.rules.{name}")
    for name in ("sgd", "adam", "adagrad", "move_average")
)
squares_pass = Function("dist_vgg.kernels.passes.sums.squares")


def squares(x: np.ndarray, grain: int) -> np.ndarray:
    """The sum of squares of each `grain` numbers, in float64."""
    # x is (n,), the result (grains,)
    found = np.empty(-(-len(x) // grain))
    squares_pass(x, grain, np.empty(SQUARES), found)
    return found


def sgd(
    w: np.ndarray, g: np.ndarray, v: np.ndarray, lr: float, momentum: float, decay: float,
    nesterov: bool,
) -> None:  # fmt: skip
    """Stochastic gradient descent with momentum."""
    # w, g and v are (n,)
    sgd_pass(w, g, v, np.array([lr, momentum, decay], w.dtype), decay != 0, nesterov)


def adam(
    w: np.ndarray, g: np.ndarray, m: np.ndarray, v: np.ndarray, rate: float, beta1: float,
    beta2: float, scale: float, eps: float, decay: float,
) -> None:  # fmt: skip
    """Adam; `rate` and `scale` make up for the zeros with which m and v began."""
    # w, g, m and v are (n,)
    k = np.array([rate, beta1, 1 - beta1, beta2, 1 - beta2, scale, eps, decay], w.dtype)
    adam_pass(w, g, m, v, k, decay != 0)


def adagrad(
    w: np.ndarray, g: np.ndarray, v: np.ndarray, lr: float, eps: float, decay: float
) -> None:
    """AdaGrad."""
    # w, g and v are (n,)
    adagrad_pass(w, g, v, np.array([lr, eps, decay], w.dtype), decay != 0)


def move_average(average: np.ndarray, w: np.ndarray, share: float) -> None:
    """Move an average a share of the way to w."""
    # average and w are (n,)
    average_pass(average, w, np.array([share], w.dtype))


# The exact arithmetic, in passes where it goes over whole vectors.
ARITHMETIC = replace(
    EXACT,
    squares=squares,
    sgd=sgd,
    adam=adam,
    adagrad=adagrad,
    move_average=move_average,
)
