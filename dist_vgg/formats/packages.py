"""Packages that only some formats need, imported when they are asked for."""

import importlib
from types import ModuleType

from dist_vgg.base.errors import UserError


def load_package(name: str, purpose: str) -> ModuleType:
    """Import a package of the extra `export`; UserError for `purpose` where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package, reason = name.partition(".")[0], str(error).splitlines()[0]
        raise UserError(
            f"{purpose} needs the package {package}, which can't be imported ({reason}); install "
            "it with: pip install 'dist_vgg[export]'"
        ) from error
