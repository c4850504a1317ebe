"""What computes on arrays: convolution, pooling, activations, the loss; a file for each kernel set.

protocol.py states the operations once. reference.py is the set that has each as a textbook states
it, numpy_set.py takes Winograd's convolution of winograd.py where it is faster, and compiled.py is
made by Numba, of the loops in passes/. sets.py knows the sets by name, machine_code.py keeps what
jit.py compiles, and arithmetic.py has what a run computes beside its network. Kernels know arrays
and nothing else: no layers, no MPI. They may use base. Start with reference.py.
"""
