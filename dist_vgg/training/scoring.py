"""A score says how well a network classifies labelled images; it is the same at any rank count."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dist_vgg.data.samples import Samples, normalise
from dist_vgg.kernels.arithmetic import NUMPY, Arithmetic
from dist_vgg.kernels.elementary import log
from dist_vgg.mpi.collectives import allreduce_sum
from dist_vgg.network.sequential import Sequential

if TYPE_CHECKING:
    from mpi4py import MPI

# Images at a time, and those whose losses are added first; a constant, since BLAS may round
# differently for other shapes, and so may sums.
BATCH = 32
Shifts = Sequence[tuple[int, int]]  # rows down, columns to the right


@dataclass(frozen=True)
class Score:
    """The confusion matrix, (true class, predicted class), and the mean loss."""

    confusion: np.ndarray
    loss: float

    @property
    def total(self) -> int:
        """How many images."""
        return int(self.confusion.sum())

    @property
    def right(self) -> int:
        """How many of them the network classified correctly."""
        return int(np.trace(self.confusion))

    @property
    def accuracy(self) -> float:
        """The share of them that it classified correctly."""
        return self.right / self.total


def shifts_by(pixels: int) -> Shifts:
    """No shift, and the eight shifts by so many pixels to the sides and corners."""
    steps = (0, pixels, -pixels)
    return [(down, right) for down in steps for right in steps] if pixels else [(0, 0)]


def batch_size(net: Sequential) -> int:
    """How many images to classify at a time: where no bit depends on that, as many as pay."""
    return max(BATCH, net.ops.TOGETHER // BATCH * BATCH)


def score(
    net: Sequential,
    shards: Mapping[int, Samples],
    mean: Sequence[float],
    std: Sequence[float],
    classes: int,
    comm: "MPI.Intracomm",
    shifts: Shifts = ((0, 0),),
    done: Callable[[int], object] = lambda count: None,
) -> Score:
    """Score a bound network on a data set; every rank gives the shards that it hosts.

    `mean` and `std` are those that the network was trained with. With several `shifts`, average the
    predicted probabilities over the image shifted by each. Every rank returns the same score, which
    does not depend on the number of ranks. Calls `done` with the size of each finished batch.
    """
    arithmetic, size = net.ops.ARITHMETIC, batch_size(net)
    confusion = np.zeros((classes, classes))
    losses = np.zeros(allreduce_sum(comm, np.array([len(shards)]))[0])
    for index, samples in shards.items():
        for start in range(0, len(samples), size):
            part = samples[start : start + size]
            images = (normalise(shifted(part.pixels, *shift), mean, std) for shift in shifts)
            logits = averaged([net.forward(x) for x in images], arithmetic)
            np.add.at(confusion, (part.labels, logits.argmax(axis=1)), 1)
            found = net.ops.cross_entropy(logits, part.labels, 1)[0]
            for first in range(0, len(found), BATCH):
                losses[index] += arithmetic.total(found[first : first + BATCH])
            done(len(part))
    # Counts are whole numbers, and only one rank has a shard's loss: the order of sums is free.
    allreduce_sum(comm, confusion)
    allreduce_sum(comm, losses)
    return Score(confusion.astype(int), float(arithmetic.total(losses) / confusion.sum()))


def averaged(several: Sequence[np.ndarray], arithmetic: Arithmetic = NUMPY) -> np.ndarray:
    """Logits of the mean of the probabilities that several logits stand for."""
    # each is (N,K), and so is the result
    if len(several) == 1:
        return several[0]
    logs = np.stack([x - arithmetic.log_sum_exp(x, 1) for x in several])
    result: np.ndarray = arithmetic.log_sum_exp(logs, 0)[0] - np.float32(log(len(several)))
    return result


def shifted(pixels: np.ndarray, down: int, right: int) -> np.ndarray:
    """Images shifted by whole pixels, fewer than a side; pixels from outside are 0."""
    # pixels and the result are (N,H,W,C)
    height, width = pixels.shape[1:3]
    result = np.zeros_like(pixels)
    result[:, max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)] = pixels[
        :, max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)
    ]
    return result
