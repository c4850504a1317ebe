"""Loops that Numba compiles: what the compiled kernel set is made of.

lanes.py has vectors of 16 numbers, microkernel.py the tile of a product whose sums stay in
registers; the other files are plain loops over both. products.py multiplies matrices,
transforms.py and tiles.py make Winograd's tiles, winograd.py convolves with them, and direct.py
convolves where channels are few. Start with microkernel.py.
"""
