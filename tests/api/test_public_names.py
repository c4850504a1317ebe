"""`import dist_vgg`: the names that it offers, none brought before it is asked for."""

import ast
import sys
from pathlib import Path

import launcher
import pytest

import dist_vgg


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
    ],
)
def test_importing_is_quick_and_starts_no_mpi(code: str, absent: str) -> None:
    ask = f"{code}; import sys; print([n for n in {absent.split()} if n in sys.modules])"
    assert launcher.run(1, "-c", ask) == (0, "[]\n", "")


# Modules under the names that they had.


def imported(code: str, *options: str) -> tuple[int, str, str]:
    return launcher.run(1, *options, "-c", code)


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("checkpoint", "state.checkpoint", "load_weights"),
        ("shards", "data.shards", "normalise"),
        ("machine", "base.machine", "blas_kernels"),
    ],
)
def test_a_documented_import_works_and_warns_once(old: str, new: str, name: str) -> None:
    again = f"from dist_vgg.{old} import {name} as before; import dist_vgg.{old}"
    code = f"{again}\n{again}\nfrom dist_vgg.{new} import {name}; print(before is {name})"
    status, output, errors = imported(code)
    assert (status, output) == (0, "True\n")
    line = f"FutureWarning: dist_vgg.{old} is now dist_vgg.{new}; the old name goes"
    assert errors.count("Warning") == errors.count(line) == 1
    assert errors.startswith("<string>:1: ")  # where it is imported, not where it is found


def test_an_old_import_can_be_made_an_error() -> None:
    status, _, errors = imported("import dist_vgg.shards", "-W", "error::FutureWarning")
    assert status == 1
    assert "FutureWarning: dist_vgg.shards is now dist_vgg.data.shards" in errors


@pytest.mark.parametrize(("old", "new"), dist_vgg._moved.MOVED.items())
def test_what_has_moved_is_there(old: str, new: str) -> None:
    root = Path(dist_vgg.__file__).parent
    assert root.joinpath(*new.split(".")).with_suffix(".py").is_file()
    assert not (root / old).with_suffix(".py").exists()


def test_the_new_names_warn_of_nothing() -> None:
    status, _, errors = imported("from dist_vgg import *; import dist_vgg.train", "-W", "error")
    assert (status, errors) == (0, "")


def test_a_module_that_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'dist_vgg\.shard'"):
        __import__("dist_vgg.shard")
    assert "dist_vgg.shard" not in sys.modules
