"""A run as its user sees it: its options, its folder and its records.

This room uses `base`, `mpi`, `data` and `state`; it does not train. Start with config.py, which
declares every option; the command line (options.py) and recipes (recipes.py) are made from it.
"""
