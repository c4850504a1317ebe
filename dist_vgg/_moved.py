"""Modules that have moved into rooms: the old import works for one more version, and warns.

Gone with the version after 0.1.0.
"""

import sys
import warnings
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pkgutil import iter_modules
from types import ModuleType

# The rooms, and the modules that have moved there; some have been divided since.
ROOMS = {
    "base": "bounds command_line errors files machine progress stopping streams",
    "kernels": "functional winograd",
    "network": "layers vgg",
    "mpi": "comm",
    "data": "augment batches digit pictures shards",
    "state": "checkpoint checksums replica",
    "exchange": "allreduce",
    "runs": "config runlog",
    "recovery": "recall stall",
    "training": "debug optim scoring words",
}
MOVED = {f"dist_vgg.{old}": f"dist_vgg.{room}" for room in ROOMS for old in ROOMS[room].split()}


class MovedModules(MetaPathFinder, Loader):
    """Finds a module under its old name. It is asked last, so what is there comes first."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """An empty module for an old name, None for all others."""
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        """Let the module look in its room for whatever is asked of it."""
        module.__getattr__ = partial(_find, module.__name__)  # type: ignore[method-assign]


def _find(old: str, name: str) -> object:
    """What an old module had by this name; warns whoever asks, and says where it is now."""
    if not name.startswith("__"):  # as Python itself asks
        room = import_module(MOVED[old])
        files = [import_module(f"{MOVED[old]}.{file.name}") for file in iter_modules(room.__path__)]
        holders = [file for file in files if name in vars(file)]
        # Where it is made, rather than where it is imported.
        owners = [file for file in holders if _home(file, name) == file.__name__]
        for file in (owners or holders)[:1]:
            line = f"{old}.{name} is now in {file.__name__}; the old name goes with 0.2"
            warnings.warn(line, FutureWarning, stacklevel=2)
            return getattr(file, name)
    raise AttributeError(f"module {old} has no attribute {name}; it has moved to {MOVED[old]}")


def _home(file: ModuleType, name: str) -> str:
    """The module that a class or function was made in; for other things the one they are in."""
    return str(getattr(vars(file)[name], "__module__", file.__name__))


def install() -> None:
    """Have Python ask here for modules that it can't find."""
    sys.meta_path.append(MovedModules())
