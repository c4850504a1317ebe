"""What computes on arrays: convolution, pooling, activations, the loss; a file for each kernel set.

reference.py has every operation as a textbook states it. A faster set is a module with functions of
the same names and signatures: `conv2d_forward` and `conv2d_backward`, and `suits`, which says for
which shapes to take them; tests compare it with the reference before anybody times it. winograd.py
is one. arithmetic.py has what a run computes beside its network, as NumPy does or with the same
bits on every processor. Kernels know arrays and nothing else: no layers, no MPI, no files. Start
with reference.py.
"""
