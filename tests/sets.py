"""The kernel sets that a run may train with here: what holds for one is tested for each."""

import pytest

from dist_vgg.kernels import sets

KERNELS = [name for name in (sets.NUMPY, sets.COMPILED) if not sets.why_missing(name)]
# For a test whose fixtures `kernels`, `small` and `reference` are to be of each set in turn.
each_set = pytest.mark.parametrize("kernels", KERNELS, indirect=True, scope="session")
