"""Winograd's transforms of F(4x4, 3x3) along one axis, for 16 channels at a time.

The matrices B, G and A are those of `winograd_transforms`, with their equal products shared. Each
function takes its constants first, which the function of the name's first word makes: once for a
whole pass, since LLVM keeps them in registers.
"""

from dist_vgg.kernels.passes.lanes import fma, inline, splat
from dist_vgg.kernels.winograd_transforms import p, pp, q, qq

PPQQ, SUM = pp * qq, pp + qq
ALPHA, BETA = 1 / (2 * pp * (pp - qq)), 1 / (2 * qq * (qq - pp))


@inline
def b_constants(x):
    """The constants of `bt` and `b`, in the type of x's numbers."""
    return (
        splat(x, p), splat(x, -p), splat(x, q), splat(x, -q), splat(x, -pp), splat(x, -qq),
        splat(x, PPQQ), splat(x, -SUM), splat(x, -p * qq), splat(x, -pp * q),
    )  # fmt: skip


@inline
def bt(k, x0, x1, x2, x3, x4, x5):
    """B' x: six pixels to six places."""
    p, minus_p, q, minus_q, minus_pp, minus_qq, ppqq, minus_sum, _, _ = k
    e, o = fma(minus_qq, x2, x4), fma(minus_qq, x1, x3)
    f, g = fma(minus_pp, x2, x4), fma(minus_pp, x1, x3)
    first, last = fma(ppqq, x0, fma(minus_sum, x2, x4)), fma(ppqq, x1, fma(minus_sum, x3, x5))
    return first, fma(p, o, e), fma(minus_p, o, e), fma(q, g, f), fma(minus_q, g, f), last


@inline
def b(k, t0, t1, t2, t3, t4, t5):
    """B t, the adjoint of `bt`."""
    p, _, q, _, minus_pp, minus_qq, ppqq, minus_sum, minus_pqq, minus_ppq = k
    s, d, u, v = t1 + t2, t1 - t2, t3 + t4, t3 - t4
    x1 = fma(minus_pqq, d, fma(minus_ppq, v, ppqq * t5))
    x2 = fma(minus_sum, t0, fma(minus_qq, s, minus_pp * u))
    x3 = fma(p, d, fma(q, v, minus_sum * t5))
    return ppqq * t0, x1, x2, x3, t0 + s + u, t5


@inline
def a_constants(x):
    """The constants of `at` and `a`."""
    return (
        splat(x, p), splat(x, -p), splat(x, pp), splat(x, p * pp),
        splat(x, q), splat(x, -q), splat(x, qq), splat(x, q * qq),
    )  # fmt: skip


@inline
def at(k, t0, t1, t2, t3, t4, t5):
    """A' t: six places to four pixels of the output."""
    p, _, pp, ppp, q, _, qq, qqq = k
    s, d, u, v = t1 + t2, t1 - t2, t3 + t4, t3 - t4
    return t0 + s + u, fma(p, d, q * v), fma(pp, s, qq * u), fma(ppp, d, fma(qqq, v, t5))


@inline
def a(k, y0, y1, y2, y3):
    """A y, the adjoint of `at`."""
    p, minus_p, pp, _, q, minus_q, qq, _ = k
    e, o = fma(pp, y2, y0), fma(pp, y3, y1)
    f, g = fma(qq, y2, y0), fma(qq, y3, y1)
    return y0, fma(p, o, e), fma(minus_p, o, e), fma(q, g, f), fma(minus_q, g, f), y3


@inline
def g_constants(x):
    """The constants of `g` and `gt`."""
    return (
        splat(x, 1 / PPQQ), splat(x, ALPHA), splat(x, ALPHA * p), splat(x, ALPHA * pp),
        splat(x, BETA), splat(x, BETA * q), splat(x, BETA * qq),
    )  # fmt: skip


@inline
def g(k, w0, w1, w2):
    """G w: three numbers of a filter to six places."""
    first, alpha, alpha_p, alpha_pp, beta, beta_q, beta_qq = k
    e, o = fma(alpha_pp, w2, alpha * w0), alpha_p * w1
    f, h = fma(beta_qq, w2, beta * w0), beta_q * w1
    return first * w0, e + o, e - o, f + h, f - h, w2


@inline
def gt(k, u0, u1, u2, u3, u4, u5):
    """G' u, the adjoint of `g`."""
    first, alpha, alpha_p, alpha_pp, beta, beta_q, beta_qq = k
    s, d, t, v = u1 + u2, u1 - u2, u3 + u4, u3 - u4
    w0 = fma(first, u0, fma(alpha, s, beta * t))
    return w0, fma(alpha_p, d, beta_q * v), fma(alpha_pp, s, fma(beta_qq, t, u5))
