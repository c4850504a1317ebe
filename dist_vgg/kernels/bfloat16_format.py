"""bfloat16, the upper half of a float32, in arrays of uint16, and how numbers are rounded to it.

A float32 goes to the nearest bfloat16, of two equally near ones to the even one (Kalamkar et al.,
"A study of bfloat16 for deep learning training", arXiv:1905.12322). Two rules are this project's:

- What is smaller than 2**-56 becomes 0. So a product of two numbers is 0 or a multiple of 2**-126,
  and so is every sum of products: none is denormal. Tiles of AMX take denormal numbers as 0 and
  other units don't; here both see the same.
- Every NaN becomes 0x7fc0. So only numbers have the sign bit, and 0 does not have it.
"""

import numpy as np

SMALLEST = 2.0**-56  # of numbers that are not 0
SMALLEST_BITS = (127 - 56) << 23  # the same as float32
NAN, INFINITY_BITS = 0x7FC0, 0x7F800000


def narrowed(x: np.ndarray) -> np.ndarray:
    """float32 numbers as bfloat16, in uint16."""
    # x and the result are of any shape
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    size = bits & 0x7FFFFFFF
    upper = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    upper = np.where(size < SMALLEST_BITS, 0, upper)
    return np.where(size > INFINITY_BITS, NAN, upper).astype(np.uint16)


def widened(x: np.ndarray) -> np.ndarray:
    """The float32 numbers that an array of bfloat16 stands for; any other array stays as it is."""
    # x and the result are of any shape
    if x.dtype != np.uint16:
        return x
    return (x.astype(np.uint32) << 16).view(np.float32)
