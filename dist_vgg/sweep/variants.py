"""What varies in a sweep: every combination of the option values given to --vary."""

import itertools
from collections.abc import Sequence

from dist_vgg.base.errors import UserError

Variant = dict[str, str]  # values by option name, both as on the command line
Axis = list[Variant]  # the choices of one --vary


def parse_axes(given: Sequence[str]) -> list[Axis]:
    """One axis for each "name=value,value"; UserError for one that makes no sense.

    Options that vary together form one axis: "optimizer/lr=sgd/0.01,adam/1e-4".
    """
    axes: list[Axis] = []
    seen: set[str] = set()
    for text in given:
        left, _, right = text.partition("=")
        names = [name.strip() for name in left.replace("_", "-").split("/")]
        texts = [text.strip() for text in right.split(",")]
        # The value of an option that stands alone may be a path, so it is not split.
        choices = [text.split("/") if len(names) > 1 else [text] for text in texts]
        if any(len(values) != len(names) or not all([*names, *values]) for values in choices):
            raise UserError(
                f"--vary {text}: give an option's name and values, as in lr=0.1,0.2, "
                "or several that go together, as in optimizer/lr=sgd/0.1,adam/1e-3"
            )
        for name in names:
            if name in seen:
                raise UserError(f"--vary {text}: {name} varies twice; give all its values at once")
            seen.add(name)
        axes.append([dict(zip(names, values, strict=True)) for values in choices])
    return axes


def combinations(axes: Sequence[Axis]) -> list[Variant]:
    """All variants: one choice from every axis, the last axis varying fastest."""
    return [combine(choices) for choices in itertools.product(*axes)]


def combine(choices: Sequence[Variant]) -> Variant:
    """The variant that makes all of these choices."""
    return {name: value for choice in choices for name, value in choice.items()}


def as_options(variant: Variant) -> list[str]:
    """The variant's part of train's command line."""
    words: list[str] = []
    for name, value in variant.items():
        if value in ("true", "false"):
            words.append(f"--{name}" if value == "true" else f"--no-{name}")
        else:
            words += [f"--{name}", value]
    return words


def label(variant: Variant) -> str:
    """The variant's name in tables and pictures."""
    return ", ".join(f"{name} {value}" for name, value in variant.items()) or "as given"
