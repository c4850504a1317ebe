"""Distributed data-parallel training of VGG16, in NumPy and MPI.

    from dist_vgg import Dataset, TrainConfig, fit, load

Each name is brought when it is first used, so importing this package is quick and starts no MPI.
Type checkers read the names in __init__.pyi: imports of them here would join every room with all.
"""

from importlib import import_module

from dist_vgg import _moved

__version__ = "0.1.0"

__all__ = [
    "Dataset",
    "Diverged",
    "Model",
    "Score",
    "TrainConfig",
    "UserError",
    "__version__",
    "fit",
    "load",
]

_HOMES = {
    "Dataset": "api.dataset",
    "Diverged": "base.errors",
    "Model": "api.model",
    "Score": "training.scoring",
    "TrainConfig": "runs.config",
    "UserError": "base.errors",
    "fit": "api.fit",
    "load": "api.model",
}

_moved.install()


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
