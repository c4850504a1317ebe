"""Benchmarks of the kernels, the step, evaluation, the exchange and memory."""
