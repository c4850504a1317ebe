"""Exponential, logarithm, sines, powers and normal numbers with the same bits on every processor.

NumPy and the C library choose theirs by processor and version, and they round differently. These
are made of + - * / and comparisons of float64, which IEEE 754 rounds in one way, and of frexp and
ldexp, which move bits. NumPy computes each operation by itself, so no product is fused with a sum.

The reductions of the argument are those of Cody and Waite, "Software manual for the elementary
functions" (1980); polynomials and constants are fdlibm's (Sun Microsystems, 1993). Each function
takes a float and returns one, or takes an array, with the same bits. Errors are below 2 units in
the last place (ulp) for results that are normal numbers, within the ranges stated.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Real = Any  # a float, or an array of float64

# ln 2 and pi/2 as sums: the leading parts end in zeros, so that small multiples of them are exact.
LN2_HI, LN2_LO = 6.93147180369123816490e-01, 1.90821492927058770002e-10
LOG2_E = 1.44269504088896338700e00
PIO2_1, PIO2_2 = 1.57079632673412561417e00, 6.07710050630396597660e-11
PIO2_3 = 2.02226624879595063154e-21
ROUND = 1.5 * 2.0**52  # adding and subtracting it rounds to a whole number, halves to even
SPLIT = 2.0**27 + 1  # cuts a float64 into halves of 26 bits (Dekker 1971)
EXP_END = 800.0  # beyond it, exp is 0 or infinite
NORMALS = 1 << 14  # numbers drawn at a time, so that temporaries stay in cache

EXP = (
    1.66666666666666019037e-01, -2.77777777770155933842e-03, 6.61375632143793436117e-05,
    -1.65339022054652515390e-06, 4.13813679705723846039e-08,
)  # fmt: skip
LOG = (
    6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01,
    2.222219843214978396e-01, 1.818357216161805012e-01, 1.531383769920937332e-01,
    1.479819860511658591e-01,
)  # fmt: skip
SIN = (
    -1.66666666666666324348e-01, 8.33333333332248946124e-03, -1.98412698298579493134e-04,
    2.75573137070700676789e-06, -2.50507602534068634195e-08, 1.58969099521155010221e-10,
)  # fmt: skip
COS = (
    4.16666666666666019037e-02, -1.38888888888741095749e-03, 2.48015872894767294178e-05,
    -2.75573143513906633035e-07, 2.08757232129817482790e-09, -1.13596475577881948265e-11,
)  # fmt: skip


def exp(x: Real) -> Real:
    """e to the power of x."""
    return _exp(_given(x), 0.0)


def log(x: Real) -> Real:
    """The natural logarithm of x: -inf at 0, NaN below."""
    x = _given(x)
    m, e = _parts(x)
    f = m - 1
    s = f / (2 + f)
    half = 0.5 * f * f
    rest = s * (half + s * s * _polynomial(s * s, LOG))
    y = e * LN2_HI - ((half - (rest + e * LN2_LO)) - f)
    y = _where(x == math.inf, x, y)
    return _where(x > 0, y, _where(x == 0, -math.inf, math.nan))


def sin(x: Real) -> Real:
    """The sine of x radians, up to a million either way."""
    return _sin_cos(_given(x))[0]


def cos(x: Real) -> Real:
    """The cosine of x radians, up to a million either way."""
    return _sin_cos(_given(x))[1]


def tan(x: Real) -> Real:
    """The tangent of x radians, up to a million either way."""
    sine, cosine = _sin_cos(_given(x))
    return sine / cosine


def power(base: Real, exponent: Real) -> Real:
    """A base of at least 0 to the power of an exponent of at most 2**53 either way.

    The error is below 2 ulp where the result is from 1e-15 to 1e15; beyond, it grows with the
    logarithm of the result, to 25 ulp at 1e300.
    """
    base, exponent = _given(base), _given(exponent)
    hi, lo = _log_pair(base)
    product, error = _product(exponent, hi)
    y = _exp(product, error + exponent * lo)
    at_end = _where((base == 0) == (exponent > 0), 0.0, math.inf)
    at_end = _where(exponent == 0, 1.0, at_end)
    y = _where((base == 0) | (base == math.inf), at_end, y)
    return _where(base >= 0, y, math.nan)


def normal(streams: Sequence[np.random.Generator], out: np.ndarray) -> None:
    """Fill out[i], for each i, with standard normal numbers from streams[i].

    They are computed in float64 and rounded once. A stream's numbers 2k and 2k + 1 are made of its
    next words 2k and 2k + 1 of 64 bits. Box and Muller, "A note on the generation of random normal
    deviates", Ann. Math. Stat. 29 (1958).
    """
    # out is (streams, ...), contiguous
    numbers = out.reshape(len(streams), -1)
    for start in range(0, numbers.shape[1], NORMALS):
        part = numbers[:, start : start + NORMALS]
        pairs = -(-part.shape[1] // 2)
        words = np.stack([stream.bit_generator.random_raw(2 * pairs) for stream in streams])
        words >>= np.uint64(11)
        radius = np.sqrt(-2 * log((words[:, 0::2] + np.uint64(1)) * 2.0**-53))
        sine, cosine = _sin_cos(words[:, 1::2] * (2.0**-52 * math.pi))
        part[:, 0::2] = radius * cosine
        part[:, 1::2] = (radius * sine)[:, : part.shape[1] // 2]


def _exp(x: Real, tail: Real) -> Real:
    """exp(x + tail), where the tail is below an ulp or so of x."""
    x = _within(x, EXP_END)
    k = _round(x * LOG2_E)
    hi, lo = x - k * LN2_HI, k * LN2_LO - tail
    r = hi - lo
    c = r - r * r * _polynomial(r * r, EXP)
    y = 1 - ((lo - r * c / (2 - c)) - hi)
    return _scaled(y, _where(k == k, k, 0.0))


def _log_pair(x: Real) -> tuple[Real, Real]:
    """The logarithm of a positive number as a sum of two, with about 7 more bits than one has."""
    m, e = _parts(x)
    f = m - 1
    # log m = 2 atanh s, with s = f / (2 + f) as a sum of two as well.
    whole = 2 + f
    s = f / whole
    product, error = _product(s, whole)
    s_lo = (((f - product) - error) - s * (f - (whole - 2))) / whole
    hi, lo = _sum(e * LN2_HI, 2 * s)
    rest = s * (s * s * _polynomial(s * s, LOG))
    return _sum(hi, lo + (2 * s_lo + rest + e * LN2_LO))


def _sin_cos(x: Real) -> tuple[Real, Real]:
    """Sine and cosine."""
    # x = n pi/2 + r + tail, with r from -pi/4 to pi/4.
    n = _round(x * (2 / math.pi))
    near, step = x - n * PIO2_1, n * PIO2_2
    hi = near - step
    r, tail = _sum(hi, ((near - hi) - step) - n * PIO2_3)
    z = r * r
    cube = z * r
    sine = r - ((z * (0.5 * tail - cube * _polynomial(z, SIN[1:])) - tail) - cube * SIN[0])
    one = 1 - 0.5 * z
    cosine = one + (((1 - one) - 0.5 * z) + (z * z * _polynomial(z, COS) - r * tail))
    # n modulo 4, from -2 to 2, says which of the two is which, and its sign.
    quarter = n - 4 * _round(n * 0.25)
    same, other = 1 - abs(quarter), quarter * (2 - abs(quarter))
    return same * sine + other * cosine, same * cosine - other * sine


def _polynomial(x: Real, coefficients: Sequence[float]) -> Real:
    """c0 + c1 x + c2 x^2 ..., by Horner's rule."""
    y: Real = coefficients[-1]
    for c in coefficients[-2::-1]:
        y = y * x + c
    return y


def _sum(a: Real, b: Real) -> tuple[Real, Real]:
    """a + b rounded, and what rounding took away (Knuth's two-sum)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _product(a: Real, b: Real) -> tuple[Real, Real]:
    """a * b rounded, and what rounding took away (Dekker, "A floating-point technique", 1971)."""
    product = a * b
    a_hi, b_hi = a * SPLIT - (a * SPLIT - a), b * SPLIT - (b * SPLIT - b)
    a_lo, b_lo = a - a_hi, b - b_hi
    return product, ((a_hi * b_hi - product) + a_hi * b_lo + a_lo * b_hi) + a_lo * b_lo


# What floats and arrays have by different names.


def _given(x: Real) -> Real:
    return float(x) if isinstance(x, (float, int)) else np.asarray(x, np.float64)


def _where(condition: Any, yes: Real, no: Real) -> Real:
    if isinstance(condition, np.ndarray):
        return np.where(condition, yes, no)
    return yes if condition else no


def _within(x: Real, end: float) -> Real:
    return min(max(x, -end), end) if isinstance(x, float) else np.clip(x, -end, end)


def _round(x: Real) -> Real:
    return (x + ROUND) - ROUND


def _parts(x: Real) -> tuple[Real, Real]:
    """Mantissa, from sqrt(1/2) to sqrt(2), and exponent of the absolute value."""
    m, e = math.frexp(abs(x)) if isinstance(x, float) else np.frexp(np.abs(x))
    small = m < math.sqrt(0.5)
    return m * (1 + small), e - small


def _scaled(x: Real, exponent: Real) -> Real:
    """x times a power of 2."""
    if isinstance(x, float):
        return float(np.ldexp(x, int(exponent)))
    return np.ldexp(x, exponent.astype(np.int32))
