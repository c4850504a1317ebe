"""The operations that a kernel set has: their names, arguments and shapes, stated once.

A set is a module with these functions and constants; `Kernels` lets mypy check that. Every
set computes the same mathematics, and each rounds in a way of its own. Activations are NHWC,
filters (kh, kw, in, out). Arrays keep their dtype: float32 in training, float64 where a gradient is
checked.

The samples may be the micro-batches of several shards, with `counts` samples each: the gradients of
parameters are then the sum of the parts' gradients along the tree, see parts.py.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from dist_vgg.kernels.arithmetic import Arithmetic


class Kernels(Protocol):
    """All that a network computes with. The names and numbers of these modules are in sets.py."""

    @property
    def NAME(self) -> str:
        """What --kernels and files call the set."""

    @property
    def VERSION(self) -> int:
        """The version of its bits: raise it with every change that rounds differently."""

    @property
    def ARITHMETIC(self) -> Arithmetic:
        """What a run with this set computes beside its network."""

    @property
    def TOGETHER(self) -> int:
        """The most samples for which micro-batches are to run together; 0: each runs alone.

        Only where no bit of a sample depends on the others may they run together.
        """

    @property
    def BY_ROWS(self) -> bool:
        """Whether `linear_backward_weights` has the same bits, whichever columns of x it is given.

        Only then may ranks share out the rows of a matrix's gradient.
        """

    def conv2d_forward(
        self, x: np.ndarray, w: np.ndarray, b: np.ndarray, relu: bool = False
    ) -> np.ndarray:
        """Convolve with stride 1 and zero padding that keeps the size; with `relu`, rectify."""
        # x is (N,H,W,C), w is (kh,kw,C,F), b is (F,), the result y is (N,H,W,F)

    def conv2d_backward(
        self,
        dy: np.ndarray,
        x: np.ndarray,
        w: np.ndarray,
        dw: np.ndarray,
        db: np.ndarray,
        need_dx: bool = True,
        y: np.ndarray | None = None,
        counts: Sequence[int] = (),
    ) -> np.ndarray | None:
        """Write the gradients of filters and bias into dw and db; return that of the input.

        Given y, the rectified output, dy counts as 0 where y is 0; a set may write that into dy.
        """
        # dy and y are (N,H,W,F), x and the result are (N,H,W,C), w and dw are (kh,kw,C,F),
        # db is (F,)

    def conv2d_pool_forward(
        self, x: np.ndarray, w: np.ndarray, b: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """`conv2d_forward`, `maxpool_forward` and `relu_forward` in one, with their bits."""
        # x is (N,H,W,C) with H and W even, w is (kh,kw,C,F), b is (F,), both results are
        # (N,H/2,W/2,F)

    def conv2d_pool_backward(
        self,
        dy: np.ndarray,
        x: np.ndarray,
        w: np.ndarray,
        dw: np.ndarray,
        db: np.ndarray,
        y: np.ndarray,
        choice: np.ndarray,
        counts: Sequence[int] = (),
    ) -> np.ndarray | None:
        """`relu_backward`, `maxpool_backward` and `conv2d_backward` in one, with their bits."""
        # dy, y and choice are (N,H/2,W/2,F), x and the result are (N,H,W,C), w and dw are
        # (kh,kw,C,F), db is (F,)

    def maxpool_forward(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The largest of each 2x2 window, and what backward needs to know where it was."""
        # x is (N,H,W,C) with H and W even, both results are (N,H/2,W/2,C)

    def maxpool_backward(self, dy: np.ndarray, choice: np.ndarray) -> np.ndarray:
        """Pass each gradient to the pixel that was the largest of its window."""
        # dy and choice are (N,H/2,W/2,C), the result is (N,H,W,C)

    def relu_forward(self, x: np.ndarray) -> np.ndarray:
        """Set negative numbers to zero, in place."""
        # x is of any shape

    def relu_backward(self, dy: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Set the gradient to zero where the output is not positive, in place."""
        # dy and y are of any shape

    def linear_forward(self, x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Multiply by a matrix and add a bias."""
        # x is (N,C), w is (C,F), b is (F,), the result is (N,F)

    def linear_backward(
        self,
        dy: np.ndarray,
        x: np.ndarray,
        w: np.ndarray,
        dw: np.ndarray,
        db: np.ndarray,
        counts: Sequence[int] = (),
    ) -> np.ndarray:
        """Write the gradients of matrix and bias into dw and db; return that of the input."""
        # dy is (N,F), x and the result are (N,C), w and dw are (C,F), db is (F,)

    def linear_backward_weights(
        self,
        dy: np.ndarray,
        x: np.ndarray,
        dw: np.ndarray,
        db: np.ndarray,
        counts: Sequence[int] = (),
    ) -> None:
        """The first half of `linear_backward`: write the gradients of matrix and bias."""
        # dy is (N,F), x is (N,C), dw is (C,F), db is (F,)

    def linear_backward_input(self, dy: np.ndarray, w: np.ndarray) -> np.ndarray:
        """The second half of `linear_backward`: return the gradient of the input."""
        # dy is (N,F), w is (C,F), the result is (N,C)

    def dropout_forward(self, x: np.ndarray, keep: np.ndarray, rate: float) -> np.ndarray:
        """Set to zero what is not kept, and scale the rest by 1/(1-rate); its own adjoint."""
        # x, the result and keep (bool) are (N,C)

    def softmax(self, logits: np.ndarray) -> np.ndarray:
        """The probabilities of the classes."""
        # logits and the result are (N,K)

    def cross_entropy(
        self, logits: np.ndarray, labels: np.ndarray, total: int, smoothing: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """The loss of each sample, and the gradient of (sum of losses / total) by the logits."""
        # logits and dlogits are (N,K), labels is (N,), losses is (N,)
