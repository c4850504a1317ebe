"""Memory that compiled passes work in, for the calls of compiled.py."""

from collections.abc import Sequence

import numpy as np

from dist_vgg.kernels.passes.sizes import CHAIN, DEPTH, LANES, PLACES, panel_width

FEW = 256 * 256  # channels times filters whose transformed filters are made once, for all blocks
FEWEST_TILES, MOST_TILES = 64, 128  # of a block


def aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array whose first number begins a line of the cache."""
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)


def spread(numbers: int, dtype: np.dtype) -> np.ndarray:
    """(36, numbers and a few more), an odd number of lines of the cache from place to place.

    At distances of a power of two all places of a tile would fall on the same few lines.
    """
    return aligned((PLACES, (-(-numbers // LANES) | 1) * LANES), dtype)


class Scratch:
    """Memory for the blocks of Winograd's convolution; with `counts`, for its backward."""

    def __init__(self, x: np.ndarray, filters: int, counts: Sequence[int] | None = None) -> None:
        n, height, width, channels = x.shape
        rows, columns = n * -(-height // 4), -(-width // 4)  # of tiles
        self.wc, self.wf = panel_width(channels), panel_width(filters)
        padded_c, padded_f = padded_to(channels, self.wc), padded_to(filters, self.wf)
        tiles = min(max(FEWEST_TILES, channels, filters), MOST_TILES)
        self.whole = channels * filters <= FEW and rows * columns > tiles
        chain = max(1, CHAIN // columns)
        at_once = chain * max(1, tiles // (chain * columns))
        self.at_once = min(rows, at_once) if self.whole or counts is None else rows
        tiles = self.at_once * columns
        # Of `input_tiles`, and of `input_gradient`.
        lines = max(6 * 8 * (channels + LANES), 6 * (4 * columns + 2) * LANES)
        self.lines = aligned((lines,), x.dtype)
        self.sheet = aligned((PLACES * LANES,), x.dtype)
        self.v = spread(padded_c * tiles, x.dtype)
        self.m = spread(padded_f * tiles, x.dtype)
        if self.whole:
            self.u = spread(max(padded_f * channels, padded_c * filters), x.dtype)
        else:
            self.u = spread(DEPTH * max(self.wc, self.wf), x.dtype)
        if counts is not None:
            levels, depth = tree_levels(counts), filters if self.whole else DEPTH
            self.images = aligned((n * filters,), x.dtype)
            self.turned = aligned((9 * (padded_c if self.whole else self.wc) * depth,), x.dtype)
            self.stack = aligned((levels, padded_f), x.dtype)
            self.parts = aligned((levels, 9 * self.wc * self.wf), x.dtype)
            self.du = spread(padded_f * channels if self.whole else self.wc * self.wf, x.dtype)


def tree_levels(counts: Sequence[int]) -> int:
    """How many sums of parts wait at most, as parts are added along the tree."""
    return len(counts).bit_length() + 1


def padded_to(count: int, width: int) -> int:
    """The columns of the panels that hold so many."""
    return -(-count // width) * width
