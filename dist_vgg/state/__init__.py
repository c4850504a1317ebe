"""What a step leaves, in memory and on disk, and how it is trusted.

A replica is the parameters and optimizer state of a node, a checkpoint the same in a file, and
checksums tell whether either is still what was written. This room uses `base`; it does not know
which rank it serves or how the vectors are used. Start with checksums.py.
"""
