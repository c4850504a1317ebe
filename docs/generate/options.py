"""The options of train, from the dataclass that the command line itself is made of."""

from collections.abc import Iterator
from dataclasses import Field, fields
from typing import Any

from dist_vgg.runs.config import TrainConfig
from dist_vgg.runs.fields import flag

from .markdown import code, sentence, text


def train_options() -> str:
    """Every option of TrainConfig, under the headings of its groups."""
    groups: dict[str, list[str]] = {}
    for group, names, lines in described():
        groups.setdefault(group, []).append(option(names, lines))
    parts = ["```{program} dist_vgg.train\n```"]
    for group, options in groups.items():
        parts += [f"## {group[0].upper()}{group[1:]}", *options]
    return "\n\n".join(parts) + "\n"


def option(names: str, lines: list[str]) -> str:
    """An option that other pages can point at, with what there is to say of it."""
    return f"````{{option}} {names}\n" + "\n\n".join(lines) + "\n````"


def described() -> Iterator[tuple[str, str, list[str]]]:
    """Of each option its group, its names as they are typed, and what there is to say of it."""
    for f in fields(TrainConfig):
        about = [sentence(text(f.metadata["help"]))]
        if value := _value(f):
            about.append(value)
        if not f.metadata["changes_result"]:
            about.append("The weights don't depend on it, so it may differ when a run resumes.")
        yield f.metadata["group"], _names(f), about


def _names(f: Field[Any]) -> str:
    """An option as it is typed, with a letter for its value."""
    name = flag(f.name)
    if isinstance(f.default, bool):
        return f"{name}, --no-{name.removeprefix('--')}"
    if f.metadata["choices"]:
        return f"{name} NAME"
    kinds = {str: "DIR", int: "N", float: "X"}
    return f"{name} {kinds[type(f.default)]}"


def _value(f: Field[Any]) -> str:
    """The default and the range of an option in a line, or "" where it has neither."""
    choices, low, high = (f.metadata[name] for name in ("choices", "low", "high"))
    parts = []
    if isinstance(f.default, bool):
        parts.append(f"Default: {'on' if f.default else 'off'}")
    elif f.default != "":
        parts.append(f"Default: {code(str(f.default))}")
    if choices:
        parts.append(f"one of {', '.join(map(code, choices))}")
    if low is not None:
        parts.append(f"above {low:g}" if f.metadata["open_low"] else f"at least {low:g}")
    if high is not None and high < 2**31 - 1:  # larger ones bound the storage, not the sense
        parts.append(f"at most {high:g}")
    return "; ".join(parts) + "." if parts else ""
