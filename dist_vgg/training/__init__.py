"""Training: the step, the loop around it, and what both need.

This room joins all others: network and kernels, data, the exchange, state, runs and recovery.
Start with trainer.py, whose `train_step` is the whole method in fifteen lines.
"""
