"""The kernel sets that a run may train with here: what holds for one is tested for each."""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest

from dist_vgg.kernels import reference, sets

KERNELS = [name for name in (sets.NUMPY, sets.COMPILED) if not sets.why_missing(name)]
# For a test whose fixtures `kernels`, `small` and `reference` are to be of each set in turn.
each_set = pytest.mark.parametrize("kernels", KERNELS, indirect=True, scope="session")


def in_some_cases(
    names: Sequence[str], each: Sequence[tuple[Any, ...]], usual: Sequence[tuple[Any, ...]]
) -> pytest.MarkDecorator:
    """Cases for each set in turn, and cases for the one that a user has by default."""
    rows = [
        (kernels, *case)
        for kernels in KERNELS
        for case in (*each, *(usual if kernels == KERNELS[-1] else ()))
    ]
    return pytest.mark.parametrize(("kernels", *names), rows, indirect=["kernels"], scope="session")


def fake_compiled(monkeypatch: pytest.MonkeyPatch, version: int = 1) -> ModuleType:
    """Have the reference's functions stand for the compiled set, whose code is kept."""
    code = dict(kept=lambda: True, prepare=lambda: None)
    for name, content in (
        (sets.MODULES[sets.COMPILED], vars(reference)),
        (sets.MACHINE_CODE, code),
    ):
        module = ModuleType(name)
        vars(module).update(content)
        module.__name__, module.__spec__ = name, ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    found = sys.modules[sets.MODULES[sets.COMPILED]]
    monkeypatch.setattr(found, "NAME", sets.COMPILED)
    monkeypatch.setattr(found, "VERSION", version)
    return found


def without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the compiled set, and no Numba."""
    fake_compiled(monkeypatch)
    monkeypatch.setitem(sys.modules, sets.MACHINE_CODE, None)
