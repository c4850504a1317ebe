"""Loops that Numba compiles: what the compiled kernel set is made of.

lanes.py has vectors of 16 numbers, microkernel.py the tile of a product whose sums stay in
registers; the other files are plain loops over both. products.py multiplies matrices,
transforms.py and tiles.py make Winograd's tiles, winograd.py convolves with them, pooled.py pools
as it does so, and direct.py convolves where channels are few. sums.py and rules.py go over whole
vectors. Start with microkernel.py.
"""
