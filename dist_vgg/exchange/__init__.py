"""How gradients are summed over ranks, and updated parameters brought to all of them.

The order of the sum is fixed (tree.py), so an exchange may differ from another in where memory
lies and what crosses between processes, never in a bit of the result. This room sees slices of
one flat vector: no layers, losses, rates or options. It uses `mpi`, `state` and `base`. Read
protocol.py first, then naive.py beside route.py.
"""
