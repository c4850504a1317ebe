"""A run as its user sees it: all options, the folder that it fills, and what it records there.

This room uses `base`, `mpi`, `data` and `state`; it does not train. Start with config.py.
"""
