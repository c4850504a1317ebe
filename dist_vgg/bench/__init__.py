"""Benchmarks of the step and its parts, of evaluation and memory, and of trained networks.

Each benchmark is a module of the command's name with three functions: `add_options` for the
command line, `run`, which starts ranks and makes a report of what they find, and `measure`, which
runs on each rank (see worker.py). This room may use all others but chaos. ladder.md tells what made
the step fast. Start with step.py.
"""
