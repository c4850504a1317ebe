"""What a step leaves, in memory and on disk, and how later starts come to trust it.

A replica is a node's parameters and optimizer state, a standby what a killed run has left of its
replicas in shared memory, a checkpoint the same in a file. Checksums tell whether any of them is
still what was written. This room uses `base` only; it does not know which rank it serves or how
the vectors are used. Read checksums.py first, then replica.py.
"""
