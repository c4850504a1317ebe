"""Checks of the machines that are to train: what is wrong, and what mends it.

Each file of a subject has `facts`, what a rank finds, and `judge`, a function of all ranks' facts
alone. This room uses what train itself uses to start, and `bench` to measure. Start with
findings.py, then __main__.py.
"""
