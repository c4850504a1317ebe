"""What computes on arrays: convolution, pooling, activations, the loss; a file for each kernel set.

reference.py has every operation as a textbook states it. A faster set is a module with functions of
the same names and signatures: `conv2d_forward` and `conv2d_backward`, and `suits`, which says for
which shapes to take them; tests compare it with the reference before anybody times it. winograd.py
is one. Kernels know arrays and nothing else: no layers, no MPI, no files. jit.py compiles them and
keeps the machine code. Start with reference.py.
"""
