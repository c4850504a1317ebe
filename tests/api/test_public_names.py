"""`import dist_vgg`: the names that it offers, none brought before it is asked for."""

import ast
import sys
from pathlib import Path

import launcher
import pytest

import dist_vgg
from dist_vgg import _moved


def test_every_name_is_there_and_documented() -> None:
    for name in dist_vgg.__all__:
        assert name in dir(dist_vgg)
        assert getattr(dist_vgg, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute fti"):
        _ = dist_vgg.fti  # type: ignore[attr-defined]


def test_type_checkers_are_told_of_the_same_names() -> None:
    path = Path(dist_vgg.__file__).with_suffix(".pyi")
    stub: dict[str, str] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            stub |= {str(name.asname): str(node.module) for name in node.names}
    assert {f"dist_vgg.{home}" for home in dist_vgg._HOMES.values()} == set(stub.values())
    assert sorted([*stub, "__version__"]) == sorted(dist_vgg.__all__)
    for name, module in stub.items():
        assert f"dist_vgg.{dist_vgg._HOMES[name]}" == module


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import dist_vgg", "numpy h5py mpi4py threadpoolctl"),
        ("from dist_vgg import *", "mpi4py.MPI"),
        # All that is imported costs each rank of each start; these as much as the files here do.
        (
            "import dist_vgg.train, dist_vgg.exchange.route",
            "email importlib.metadata importlib.resources numba numpy.ma pdb",
        ),
    ],
)
def test_importing_is_quick_and_starts_no_mpi(code: str, absent: str) -> None:
    ask = f"{code}; import sys; print([n for n in {absent.split()} if n in sys.modules])"
    assert launcher.run(1, "-c", ask) == (0, "[]\n", "")


# Modules under the names that they had.


def imported(code: str, *options: str) -> tuple[int, str, str]:
    return launcher.run(1, *options, "-c", code)


@pytest.mark.parametrize(
    ("old", "now", "name"),
    [
        ("checkpoint", "state.weights", "load_weights"),
        ("shards", "data.samples", "normalise"),
        ("machine", "base.machine", "blas_kernels"),
        ("winograd", "kernels.winograd", "conv2d_forward"),  # which kernels.reference has as well
        ("scoring", "training.scoring", "score"),
        ("comm", "base.command_line", "run_alone"),
    ],
)
def test_a_documented_import_works_and_says_where_the_name_is_now(
    old: str, now: str, name: str
) -> None:
    code = f"from dist_vgg.{old} import {name}; print({name}.__module__)"
    status, output, errors = imported(code)
    new = f"dist_vgg.{now}"
    assert (status, output.strip()) == (0, new)
    # It names the line that imports, not the one that finds.
    line = f"<string>:1: FutureWarning: dist_vgg.{old}.{name} is now in {new}; the old name goes"
    assert errors.startswith(line)
    assert errors.count("Warning") == 1
    assert imported(f"from {new} import {name}", "-W", "error") == (0, "", "")


def test_an_old_import_can_be_made_an_error() -> None:
    code = "from dist_vgg.shards import normalise"
    status, _, errors = imported(code, "-W", "error::FutureWarning")
    assert status == 1
    assert "FutureWarning: dist_vgg.shards.normalise is now in dist_vgg.data." in errors


def test_an_old_module_has_no_more_than_its_room() -> None:
    status, _, errors = imported("import dist_vgg.comm as old; old.add_up")
    assert status == 1
    assert "module dist_vgg.comm has no attribute add_up; it has become dist_vgg.mpi" in errors


@pytest.mark.parametrize("old", _moved.MOVED)
def test_no_old_name_is_that_of_something_else(old: str) -> None:
    place = Path(dist_vgg.__file__).parent / old.removeprefix("dist_vgg.")
    assert not place.exists()
    assert not place.with_suffix(".py").exists()
    for new in _moved.MOVED[old]:
        assert Path(launcher.ROOT, *new.split(".")).with_suffix(".py").exists()


def test_the_new_names_warn_of_nothing() -> None:
    status, _, errors = imported("from dist_vgg import *; import dist_vgg.train", "-W", "error")
    assert (status, errors) == (0, "")


def test_a_module_that_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'dist_vgg\.shard'"):
        __import__("dist_vgg.shard")
    assert "dist_vgg.shard" not in sys.modules
