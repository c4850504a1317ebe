"""The update rules of optimizers in one pass over memory each; see kernels/rules.py.

No product is fused with a sum, so the bits are those of NumPy. `k` has the numbers of a rule.
"""

from numba.types import boolean

from dist_vgg.kernels.jit import jit
from dist_vgg.kernels.passes.lanes import inline, load, one, repeat, root, store
from dist_vgg.kernels.passes.sizes import LANES


@jit(one, one, one, one, boolean, boolean)
def sgd(w, g, v, k, decays, nesterov):
    """k is (lr, momentum, decay)."""
    lr, momentum, decay = repeat(k, 0), repeat(k, 1), repeat(k, 2)
    for i in range(0, len(w), LANES):
        left = len(w) - i
        w_i, d = _weight_and_gradient(w, g, i, decay, decays)
        v_i = momentum * load(v, i, left) + d
        store(v, i, left, v_i)
        store(w, i, left, w_i - lr * (d + momentum * v_i if nesterov else v_i))


@jit(one, one, one, one, one, boolean)
def adam(w, g, m, v, k, decays):
    """k is (rate, beta1, 1 - beta1, beta2, 1 - beta2, scale, eps, decay)."""
    rate, beta1, rest1 = repeat(k, 0), repeat(k, 1), repeat(k, 2)
    beta2, rest2, scale, eps, decay = (
        repeat(k, 3), repeat(k, 4), repeat(k, 5), repeat(k, 6), repeat(k, 7)
    )  # fmt: skip
    for i in range(0, len(w), LANES):
        left = len(w) - i
        w_i, d = _weight_and_gradient(w, g, i, decay, decays)
        m_i = beta1 * load(m, i, left) + rest1 * d
        v_i = beta2 * load(v, i, left) + rest2 * (d * d)
        store(m, i, left, m_i)
        store(v, i, left, v_i)
        store(w, i, left, w_i - rate * (m_i / (root(v_i) * scale + eps)))


@jit(one, one, one, one, boolean)
def adagrad(w, g, v, k, decays):
    """k is (lr, eps, decay)."""
    lr, eps, decay = repeat(k, 0), repeat(k, 1), repeat(k, 2)
    for i in range(0, len(w), LANES):
        left = len(w) - i
        w_i, d = _weight_and_gradient(w, g, i, decay, decays)
        v_i = load(v, i, left) + d * d
        store(v, i, left, v_i)
        store(w, i, left, w_i - lr * (d / (root(v_i) + eps)))


@jit(one, one, one)
def move_average(average, w, k):
    """k is (share,)."""
    share = repeat(k, 0)
    for i in range(0, len(w), LANES):
        left = len(w) - i
        a_i = load(average, i, left)
        store(average, i, left, a_i + share * (load(w, i, left) - a_i))


@inline
def _weight_and_gradient(w, g, i, decay, decays):
    """Numbers of w, and those of g with the gradient of the L2 penalty."""
    w_i, g_i = load(w, i, len(w) - i), load(g, i, len(w) - i)
    return w_i, g_i + decay * w_i if decays else g_i
