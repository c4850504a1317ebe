"""Layers, and VGG16 made of them.

Layers hold views into one flat vector of parameters and one of gradients, and remember what
backward needs. They use kernels and random streams, and know no MPI, optimizers, files or options.
Start with layers.py; sequential.py puts layers over the flat vectors, vgg.py makes VGG16 of them.
"""
