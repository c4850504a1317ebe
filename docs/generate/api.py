"""The public names of the package, by autodoc."""

import importlib
import inspect


def public_names() -> list[str]:
    """The full names of what programs and notebooks may import, in their order."""
    exported = getattr(importlib.import_module("dist_vgg"), "__all__", ())
    return [f"dist_vgg.{name}" for name in exported if not name.startswith("_")]


def api() -> str:
    """A block for each public name: its signature and what it says of itself."""
    parts = []
    for full in public_names():
        module, _, name = full.rpartition(".")
        thing = getattr(importlib.import_module(module), name)
        kind = "class" if inspect.isclass(thing) else "function" if callable(thing) else "data"
        members = "\n   :members:" if kind == "class" else ""
        parts.append(f"```{{eval-rst}}\n.. auto{kind}:: {full}{members}\n```\n")
    return "\n".join(parts)
