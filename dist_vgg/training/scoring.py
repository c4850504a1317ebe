"""A score is how well a network does on labelled images, each taken once, at any rank count."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dist_vgg.data.samples import Samples, normalise
from dist_vgg.kernels import reference as F
from dist_vgg.mpi.collectives import allreduce_sum
from dist_vgg.network.sequential import Sequential

if TYPE_CHECKING:
    from mpi4py import MPI

BATCH = 32  # images at a time; fixed, since BLAS may round differently for other shapes
Moves = Sequence[tuple[int, int]]  # rows down, columns to the right


@dataclass(frozen=True)
class Score:
    """What came out: the confusion matrix (true class, predicted class), and the mean loss."""

    confusion: np.ndarray
    loss: float

    @property
    def total(self) -> int:
        """How many images."""
        return int(self.confusion.sum())

    @property
    def right(self) -> int:
        """How many of them were recognised."""
        return int(np.trace(self.confusion))

    @property
    def accuracy(self) -> float:
        """The part that was recognised."""
        return self.right / self.total


def around(pixels: int) -> Moves:
    """To stay, and the eight moves by so many pixels to the sides and corners."""
    steps = (0, pixels, -pixels)
    return [(down, right) for down in steps for right in steps] if pixels else [(0, 0)]


def score(
    net: Sequential,
    shards: Mapping[int, Samples],
    mean: float,
    std: float,
    classes: int,
    comm: "MPI.Intracomm",
    moves: Moves = ((0, 0),),
    done: Callable[[int], object] = lambda count: None,
) -> Score:
    """Score a bound network on a data set, of which every rank brings its shards.

    `mean` and `std` are those that the network was trained with. With several `moves` the
    probabilities are averaged over the image moved by each. All ranks get the same score, the same
    at any number of ranks. `done` is told of every batch.
    """
    confusion = np.zeros((classes, classes))
    losses = np.zeros(allreduce_sum(comm, np.array([len(shards)]))[0])
    for index, samples in shards.items():
        for start in range(0, len(samples), BATCH):
            part = samples[start : start + BATCH]
            images = (normalise(moved(part.pixels, *move), mean, std) for move in moves)
            logits = averaged([net.forward(x) for x in images])
            np.add.at(confusion, (part.labels, logits.argmax(axis=1)), 1)
            losses[index] += F.cross_entropy(logits, part.labels, 1)[0].sum(dtype=np.float64)
            done(len(part))
    # Counts are whole numbers, and each shard's loss comes from one rank: no order matters.
    allreduce_sum(comm, confusion)
    allreduce_sum(comm, losses)
    return Score(confusion.astype(int), float(losses.sum() / confusion.sum()))


def averaged(several: Sequence[np.ndarray]) -> np.ndarray:
    """Logits of the mean of the probabilities that each of several logits stand for."""
    if len(several) == 1:
        return several[0]
    logs = [x - np.logaddexp.reduce(x, axis=1, keepdims=True) for x in several]
    return np.logaddexp.reduce(logs, axis=0) - np.float32(np.log(len(several)))


def moved(pixels: np.ndarray, down: int, right: int) -> np.ndarray:
    """Images moved by whole pixels, less than a side; what comes in from outside is 0."""
    # pixels is (N,H,W,C)
    height, width = pixels.shape[1:3]
    result = np.zeros_like(pixels)
    result[:, max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)] = pixels[
        :, max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)
    ]
    return result
