"""Modules that have moved into rooms: the old import works for one more version, and warns.

Gone with the version after 0.1.0.
"""

import sys
import warnings
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType

# Where the names of each module are now; of two files that have a name, the first is meant.
NOW = {
    "errors": "base.errors",
    "files": "base.files",
    "bounds": "base.bounds",
    "streams": "base.random",
    "command_line": "base.command_line",
    "machine": "base.machine",
    "progress": "base.progress",
    "stopping": "base.signals",
    "functional": "kernels.reference",
    "winograd": "kernels.winograd kernels.winograd_transforms",
    "layers": "network.layers network.sequential",
    "vgg": "network.vgg",
    "comm": "mpi.collectives mpi.command base.command_line base.launcher",
    "shards": "data.shards data.samples data.set_info data.dataset",
    "batches": "data.batches",
    "augment": "data.augment",
    "pictures": "data.pictures",
    "digit": "data.digit",
    "checksums": "state.checksums data.batches",
    "replica": "state.replica state.standby state.shm state.record",
    "checkpoint": "state.checkpoint state.weights",
    "allreduce": "exchange.route exchange.tree exchange.partition exchange.placement",
    "config": "runs.config runs.options runs.fields runs.recipes",
    "runlog": "runs.log runs.clock",
    "recall": "recovery.resume recovery.host_memory runs.folder",
    "stall": "recovery.watchdog recovery.board recovery.peer_hosts",
    "optim": "training.optim training.schedules",
    "scoring": "training.scoring",
    "debug": "training.debug training.gradient_check",
    "words": "training.messages",
}
MOVED = {f"dist_vgg.{old}": [f"dist_vgg.{new}" for new in NOW[old].split()] for old in NOW}


class MovedModules:
    """Finds a module under its old name. It is asked last, so what is there comes first.

    It derives from no class of importlib.abc, whose import costs each start what 20 files here do.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """An empty module for an old name, None for all others."""
        return ModuleSpec(fullname, self) if fullname in MOVED else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """Have Python make the module as it makes others."""

    def exec_module(self, module: ModuleType) -> None:
        """Let the module look in its successors for whatever is asked of it."""
        module.__getattr__ = partial(_find, module.__name__)  # type: ignore[method-assign]


def _find(old: str, name: str) -> object:
    """What an old module had by this name; warns whoever asks, and says where it is now."""
    if not name.startswith("__"):  # as Python itself asks
        for new in MOVED[old]:
            file = import_module(new)
            if name in vars(file):
                line = f"{old}.{name} is now in {new}; the old name goes with 0.2"
                warnings.warn(line, FutureWarning, stacklevel=2)
                return getattr(file, name)
    homes = " and ".join(MOVED[old])
    raise AttributeError(
        f"module {old} has no attribute {name}; it has become {homes}, and some names have changed"
    )


def install() -> None:
    """Have Python ask here for modules that it can't find."""
    sys.meta_path.append(MovedModules())
