"""How gradients travel between ranks.

Routes differ in where memory lies and what crosses between processes, never in what is summed or
in which order. This room sees slices of one flat vector: no layers, losses, rates or options. It
uses `mpi` and `state`. Start with route.py.
"""
