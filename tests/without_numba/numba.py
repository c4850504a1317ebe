"""Found before Numba by a command that a test starts, which so computes with NumPy."""

raise ImportError("the tests hide it from commands that need no compiled kernels")
