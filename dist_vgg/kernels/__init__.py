"""What computes on arrays: convolution, pooling, activations, the loss; a file for each set.

`reference` states each operation as a textbook does, and `winograd` is a faster convolution that
is tested against it. Kernels know arrays and nothing else: no layers, no MPI, no files.
Start with reference.py.
"""
