"""What computes on arrays: convolution, pooling, activations, the loss; a file for each kernel set.

protocol.py states the operations once. reference.py is the set that has each as a textbook states
it; numpy_set.py takes Winograd's convolution, of winograd.py, where it is faster. sets.py knows the
sets by name. Tests compare every set with the reference before anybody times it. Kernels know
arrays and nothing else: no layers, no MPI, no files. They may use base. Start with reference.py.
"""
