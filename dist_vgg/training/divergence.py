"""Noticing that training has diverged, though its numbers may still be finite."""

from dist_vgg.kernels.elementary import log

# A step beyond either has diverged. Sound runs of the recipes stay 500 times below the first and
# 10,000 times below the second, from their first step on; numbers may grow to Inf only much later.
EXPLODED_LOSS = 1000  # times the loss of guessing, ln(classes)
EXPLODED_NORM = 1e6


def exploded(loss: float, norm: float, classes: int) -> str:
    """That training has diverged, what shows it, and what to try; "" where nothing does.

    `loss` is the mean over some images, `norm` that of the gradient before it is clipped.
    """
    if loss > EXPLODED_LOSS * log(classes):
        found = f"the loss is {loss:.3g}, more than {EXPLODED_LOSS:,} times that of guessing"
    elif norm > EXPLODED_NORM:
        found = f"the gradient's norm is {norm:.3g}, more than {EXPLODED_NORM:,.0f}"
    else:
        return ""
    return f"training has diverged: {found}; lower --lr, or lengthen --warmup"
