"""Benchmarks of the step, the kernels, the exchange, evaluation, the audit and memory.

Each benchmark is a module of the command's name with three functions: `add_options` for the
command line, `run`, which starts ranks and makes a report of what they find, and `measure`, which
runs on each rank (see worker.py). This room may use all others but chaos. ladder.md tells what made
the step fast. Start with step.py.
"""
