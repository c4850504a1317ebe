"""The exchange, as a step sees it: what sums gradients over ranks and spreads what they update.

The trainer knows nothing else of communication. To try another exchange, write a class with
these methods and attributes and give it to the trainer; naive.py is the shortest one.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from mpi4py import MPI

from dist_vgg.exchange.audit import ReplicaAudit
from dist_vgg.exchange.factors import TakeFactors
from dist_vgg.exchange.partition import Partition, Slice
from dist_vgg.exchange.vectors import Vectors
from dist_vgg.state.checksums import Cells
from dist_vgg.state.replica import Replica


class Exchange(Protocol):
    """One rank's end of the exchange. A step calls its methods in this order:

        for branch in branches:
            gradient()                   a vector, into which backward writes
            need(lo, hi)                 before a layer's forward reads its parameters
            ready(lo, hi)                after a layer's backward has written its gradient
            add(*branch)
        wait()
        reduce_scatter()                 now `total` is the sum, in the slices of `owned`
        check()
        replica.swap()                   then update the slices of `owned` in `params` and `state`
        all_gather()                     now `params` are whole in every replica, or on their way

    `total` must have the bits of the sum along the tree over all shards (see tree.py), on
    whichever ranks; then training has the same result with any exchange.
    """

    # What a step reads.
    local_shards: Sequence[int]  # the shards that this rank hosts, in order
    # The same in whole branches of the tree. The micro-batches of a branch may run together, and
    # their gradients come added along the tree.
    branches: Sequence[Sequence[int]]
    partition: Partition
    owned: list[Slice]  # what this rank updates
    answers: list[Slice]  # of it, what it answers for: the ranks' slices tile the vector
    replica: Replica  # parameters and optimizer state, to be swapped and committed
    total: np.ndarray  # (count,) float32, the summed gradient; valid in `owned`

    # Where set, backward gives it the last layers' factors and does not write their gradients.
    factors: TakeFactors | None

    # What goes on outside the step.
    vectors: Vectors  # broadcast, gather, scatter, compare
    audit: ReplicaAudit | None  # notes and checks; None where nothing is checked

    # What a run says of its exchange.
    kind: str
    is_leader: bool  # of the ranks that share `replica`, one
    shared_bytes: int  # of memory that ranks share, counted by the leader
    no_standby: str  # why no replica outlives the processes although a standby was asked for

    @property
    def hidden_seconds(self) -> float:
        """In which something travelled while this rank computed, in all steps."""

    @property
    def sent_bytes(self) -> int:
        """What this rank has sent to other nodes, in all steps."""

    @property
    def params(self) -> np.ndarray:
        """(count,) float32: the last step's parameters, or from `swap` on those being written."""

    @property
    def state(self) -> dict[str, np.ndarray]:
        """The optimizer's vectors by name; each is valid in `owned`."""

    def gradient(self) -> np.ndarray:
        """The vector, (count,) float32, that the next branch's gradient is written to."""

    def ready(self, lo: int, hi: int) -> None:
        """Take note that `gradient` is finished from `lo` on; slices come from the end."""

    def add(self, *branch: int) -> None:
        """Take the vector given out last as the gradient of these shards' micro-batches."""

    def wait(self) -> None:
        """Wait for the slowest rank's gradients, so that waiting can be told from summing."""

    def reduce_scatter(self) -> None:
        """Sum the gradients of all shards, each rank in the slices that it owns."""

    def check(self) -> None:
        """Raise RankError where the parameters of this step have changed under it.

        Nobody may update by gradients that were computed with a flipped bit.
        """

    def all_gather(self, follows: bool = False) -> bool:
        """Bring the slices that each rank has updated to every replica.

        Returns whether all are whole now. Only where another step `follows`, before anything else
        is asked of the exchange, may they still be on their way.
        """

    def need(self, lo: int, hi: int) -> None:
        """Have params[lo:hi] whole before this returns.

        What `all_gather` has left on its way is whole everywhere after the step's `wait`.
        """

    def close(self, keep: bool = False) -> None:
        """Give shared memory back; the arrays must not be used any more.

        With `keep`, what was to outlive the processes does so.
        """


class MakeExchange(Protocol):
    """What makes an exchange: a class, or a function with more of its arguments given."""

    def __call__(
        self,
        comm: MPI.Intracomm,
        count: int,
        shards_of_rank: Sequence[Sequence[int]],
        state: Sequence[str],
        standby: str,
        cells: Cells | None,
    ) -> Exchange:
        """Make this rank's end of an exchange of vectors of `count` numbers; collective.

        `shards_of_rank` says which each rank hosts: every shard once, each rank at least one.
        `state` names the vectors of the optimizer. With the name of a `standby`, replicas are to be
        kept in memory that outlives the processes. With `cells`, all is to be audited.
        """
