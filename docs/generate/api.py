"""The public names of the package, by autodoc."""

import inspect

import dist_vgg


def public_names() -> list[str]:
    """What programs and notebooks may import from the package."""
    return [name for name in dist_vgg.__all__ if not name.startswith("_")]


def api() -> str:
    """A block for each public name: its signature and what it says of itself."""
    parts = []
    for name in public_names():
        thing = getattr(dist_vgg, name)
        kind = "class" if inspect.isclass(thing) else "function" if callable(thing) else "data"
        members = "\n   :members:" if kind == "class" else ""
        parts.append(f"```{{eval-rst}}\n.. auto{kind}:: dist_vgg.{name}{members}\n```\n")
    return "\n".join(parts)
