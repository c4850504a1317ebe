"""Print a hash of each number that a run computes beside its network, for test_arithmetic.py.

python tests/exact_numbers.py EXACT|NUMPY
"""

import hashlib
import sys

import numpy as np

from dist_vgg.data.augment import Augment
from dist_vgg.exchange.partition import Partition
from dist_vgg.kernels import arithmetic as arithmetics
from dist_vgg.kernels import exact_loss, reference
from dist_vgg.network.vgg import initialise, vgg16
from dist_vgg.training.optim import Adam
from dist_vgg.training.schedules import schedule
from dist_vgg.training.scoring import averaged

arithmetic = getattr(arithmetics, sys.argv[1])
loss = exact_loss if arithmetic is arithmetics.EXACT else reference
# Whole numbers, and floats made of them, are the same everywhere.
draw = np.random.Generator(np.random.Philox(1))


def show(name: str, *arrays: np.ndarray) -> None:
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays))
    print(name, digest.hexdigest()[:16])


kernels = "compiled" if arithmetic is arithmetics.EXACT else "numpy"
net = vgg16(size=32, width=0.1, kernels=kernels)
params = np.empty(net.parameter_count, np.float32)
initialise(net, params, 3)
show("weights", params)

for kind in ("step", "cosine"):
    rate = schedule(kind, 0.01, 5000, 20, arithmetic=arithmetic)
    show(kind, np.array([rate(step) for step in range(5000)]))

w, g, m, v = (draw.random(500, np.float32) for _ in range(4))
for step in range(1, 2001):
    Adam(arithmetic=arithmetic).update(w, g.copy(), (m, v), 1e-3, step, 1e-4)
show("adam", w)

pixels = draw.integers(0, 256, (40, 64, 64, 1)).astype(np.uint8)
augment = Augment(rotate=15, scale=0.2, shear=10, shift=0.1, deform=0.03)
show("images", augment.draw(pixels, np.arange(40), 1, 2, arithmetic))

logits = (draw.random((3, 500, 10), np.float32) - np.float32(0.5)) * 30
labels = draw.integers(0, 10, 500)
losses, dlogits = loss.cross_entropy(logits[0], labels, 64, 0.1)
show("loss", losses, dlogits, loss.softmax(logits[0]), arithmetic.total(losses))
show("shifts", averaged(list(logits), arithmetic))

squares = Partition(len(params), 1).squares(params, [(0, len(params))], arithmetic)
total = float(arithmetic.total(squares))
show("norm", squares, np.array(arithmetic.power(total, 0.5)))
