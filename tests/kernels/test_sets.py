"""The kernel sets by name: which "auto" means, what is said where one is missing, what each has."""

import inspect

import numpy as np
import pytest
from sets import KERNELS, fake_compiled, without_numba

from dist_vgg.base.errors import UserError
from dist_vgg.kernels import numpy_set, reference, sets
from dist_vgg.kernels.protocol import Kernels


def test_auto_is_compiled_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = fake_compiled(monkeypatch)
    assert sets.resolve("auto") == "compiled"
    assert sets.load("auto") is sets.load("compiled") is compiled
    assert sets.on_every_processor(sets.load("compiled"))


def test_auto_is_numpy_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    without_numba(monkeypatch)
    assert sets.resolve("auto") == "numpy"
    assert sets.load("auto") is numpy_set
    assert not sets.on_every_processor(numpy_set)


def test_a_missing_set_says_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    without_numba(monkeypatch)
    with pytest.raises(UserError) as found:
        sets.load("compiled")
    line = str(found.value)
    assert line.startswith("--kernels compiled is missing: Numba can't be imported (")
    assert line.endswith("; install it with: pip install 'dist_vgg[fast]'")
    assert "\n" not in line


def test_a_choice_of_one_set_stays_that() -> None:
    assert [sets.resolve(name) for name in sets.MODULES] == list(sets.MODULES)


@pytest.mark.parametrize("name", ["reference", *KERNELS])
def test_each_set_has_its_name_version_and_operations(name: str) -> None:
    found = sets.load(name)
    assert name == found.NAME
    assert found.VERSION >= 1
    # mypy compares types; here the names of arguments and their defaults.
    operations = {n: f for n, f in vars(Kernels).items() if inspect.isfunction(f) and n[0] != "_"}
    assert {"conv2d_backward", "cross_entropy"} <= set(operations)
    for operation, stated in operations.items():
        _, *expected = inspect.signature(stated).parameters.values()
        given = inspect.signature(getattr(found, operation)).parameters.values()
        assert [(p.name, p.default) for p in given] == [(p.name, p.default) for p in expected]


def test_numpy_takes_winograd_for_filters_of_3x3_alone() -> None:
    x, y = np.ones((8, 8, 8, 16)), np.ones((8, 8, 8, 16))
    for side, module in ((3, "winograd"), (5, "reference"), (1, "reference")):
        w = np.ones((side, side, 16, 16))
        assert numpy_set.convolution(x, w).__name__.endswith(module)
        grads = np.empty_like(w), np.empty(16)
        expected = reference.conv2d_backward(y.copy(), x, w, *grads)
        found = numpy_set.conv2d_backward(y.copy(), x, w, *grads)
        np.testing.assert_allclose(found, expected, rtol=1e-10)
