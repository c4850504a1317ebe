"""The audit of a replica: each rank checks the slices that it owns, and copies of others' slices.

A flipped bit is found in the step in which it happens, or in which it is next read, by the rank
that has it in its memory.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dist_vgg.exchange.nodes import Nodes
from dist_vgg.exchange.partition import Partition
from dist_vgg.mpi.collectives import allreduce_sum
from dist_vgg.mpi.host import where_is
from dist_vgg.state.checksums import GRADIENT, PARAMETERS, Audit, Cells
from dist_vgg.state.replica import Replica


class ReplicaAudit(Audit):
    """Checksums of a node's replica and of the summed gradient, in tables that its ranks share.

    `note_all` and `share` are collective: every rank calls them at the same time.
    """

    def __init__(
        self,
        cells: Cells,
        replica: Replica,
        nodes: Nodes,
        partition: Partition,
        meet: Callable[[], None],
    ) -> None:
        """`meet` waits for the node's ranks and has each see what the others have written."""
        names: Sequence[str] = (PARAMETERS, *replica.names, GRADIENT)
        where = where_is(nodes.comm)
        super().__init__(cells, names, replica.tables, where, partition.buckets)
        self._replica, self._nodes, self._partition, self._meet = replica, nodes, partition, meet
        self._owned = partition.owned(nodes.comm.rank)
        # The copies of what other nodes alone own; this node's ranks share the work.
        self._copies = [
            partition.piece(bucket, rank)
            for bucket in partition.buckets
            if not partition.everywhere(bucket)
            for rank in nodes.partners
        ]

    def note_all(self) -> None:
        """Note the replica as it is now: at the start, or where a run goes on."""
        for piece in self._owned:
            self.note(PARAMETERS, self._replica.params, *piece)
            for name, vector in self._replica.state.items():
                self.note(name, vector, *piece)
        self._meet()
        self.share()
        self.check_copies()

    def share(self) -> None:
        """Have all nodes know all checksums.

        Of what every node owns, they are those of the node that answers for it: where another's
        differ, its next update finds that. Each rank's notes must be seen by its node before this.
        """
        if not self._nodes.elsewhere:
            return
        if self._nodes.is_leader:
            home = np.zeros(len(self.cells), bool)
            for rank in self._nodes.home:
                for piece in self._partition.answers(rank):
                    home[self.cells.within(*piece)] = True
            notes = np.where(home, self.tables, np.uint64(0))
            self.tables[:] = allreduce_sum(self._nodes.leaders, notes)
        self._meet()

    def check_all(self, total: np.ndarray | None = None) -> None:
        """Raise RankError where the replica is no longer what the last step has left.

        With the `total` gradient, also where that is not what this rank has summed.
        """
        for piece in self._owned:
            if total is not None:
                self.check(GRADIENT, total, *piece)
            for name, vector in self._replica.state.items():
                self.check(name, vector, *piece)
            self.check(PARAMETERS, self._replica.params, *piece)
        self.check_copies()

    def check_copies(self) -> None:
        """Raise RankError where a copy of what another node owns has changed."""
        for piece in self._copies:
            self.check(PARAMETERS, self._replica.params, *piece)

    def commit(self, header: Mapping[str, Any]) -> None:
        """Mark the step as whole in the memory that outlives the processes.

        `header` says what the step is; the node's slices of the optimizer's state are added.
        """
        if self._nodes.is_leader:
            pieces = self._partition.owned_by(self._nodes.home)
            self._replica.commit({**header, "pieces": pieces}, self.cells)
