"""Distributed data-parallel training of VGG16, in NumPy and MPI.

Importing this package starts no MPI; only the commands do.
"""

__version__ = "0.1.0"
