"""The public names of the package, by autodoc."""

import importlib
import inspect

# Until the package exports names of its own, these are what the guides import.
PUBLIC = (
    "dist_vgg.state.checkpoint.load_weights",
    "dist_vgg.state.checkpoint.Weights",
    "dist_vgg.evaluate.load_network",
    "dist_vgg.data.shards.normalise",
)


def public_names() -> list[str]:
    """The full names of what programs and notebooks may import."""
    package = importlib.import_module("dist_vgg")
    exported = [name for name in getattr(package, "__all__", ()) if not name.startswith("_")]
    return [f"dist_vgg.{name}" for name in exported] or list(PUBLIC)


def api() -> str:
    """A block for each public name: its signature and what it says of itself."""
    parts = []
    own_page = "" if hasattr(importlib.import_module("dist_vgg"), "__all__") else "\n   :no-index:"
    for full in public_names():
        module, _, name = full.rpartition(".")
        thing = getattr(importlib.import_module(module), name)
        kind = "class" if inspect.isclass(thing) else "function" if callable(thing) else "data"
        members = "\n   :members:" if kind == "class" else ""
        parts.append(f"```{{eval-rst}}\n.. auto{kind}:: {full}{own_page}{members}\n```\n")
    return "\n".join(parts)
