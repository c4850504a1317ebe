"""Modules that have moved: the old import works for one more version, and warns.

Gone with the version after 0.1.0.
"""

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "allreduce": "exchange.route",
    "augment": "data.augment",
    "batches": "data.batches",
    "bounds": "base.bounds",
    "checkpoint": "state.checkpoint",
    "checksums": "state.checksums",
    "comm": "mpi.collectives",
    "command_line": "base.command_line",
    "config": "runs.config",
    "debug": "training.debug",
    "digit": "data.digit",
    "errors": "base.errors",
    "files": "base.files",
    "functional": "kernels.reference",
    "layers": "network.layers",
    "machine": "base.machine",
    "optim": "training.optim",
    "pictures": "data.pictures",
    "progress": "base.progress",
    "recall": "recovery.resume",
    "replica": "state.replica",
    "runlog": "runs.log",
    "scoring": "training.scoring",
    "shards": "data.shards",
    "stall": "recovery.watchdog",
    "stopping": "base.signals",
    "streams": "base.random",
    "vgg": "network.vgg",
    "winograd": "kernels.winograd",
    "words": "training.messages",
}


class MovedModules(MetaPathFinder, Loader):
    """Finds a module under its old name. It is asked last, so what is there comes first."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Warn whoever imports a module by its old name; None for all other names."""
        package, _, name = fullname.rpartition(".")
        if package != "dist_vgg" or name not in MOVED:
            return None
        line = f"{fullname} is now dist_vgg.{MOVED[name]}; the old name goes with the next version"
        # Python's own frames of the import don't count: level 2 is the line that imports.
        warnings.warn(line, FutureWarning, stacklevel=2)
        return ModuleSpec(fullname, self)

    def exec_module(self, module: ModuleType) -> None:
        """Put the module of the new name in place of the one that Python has made for the old."""
        package, _, name = module.__name__.rpartition(".")
        sys.modules[module.__name__] = import_module(f"{package}.{MOVED[name]}")
