"""The options of train, from the dataclass that the command line itself is made of."""

from dist_vgg.runs.config import TrainConfig
from dist_vgg.runs.fields import LARGEST, Option, describe_options

from .markdown import code, sentence, text


def train_options() -> str:
    """Every option of TrainConfig, under the headings of its groups."""
    groups: dict[str, list[str]] = {}
    for one in describe_options(TrainConfig):
        groups.setdefault(one.group, []).append(option(_names(one), _about(one)))
    parts = ["```{program} dist_vgg.train\n```"]
    for group, options in groups.items():
        parts += [f"## {group[0].upper()}{group[1:]}", *options]
    return "\n\n".join(parts) + "\n"


def option(names: str, lines: list[str]) -> str:
    """An option that other pages can point at, with what there is to say of it."""
    return f"````{{option}} {names}\n" + "\n\n".join(lines) + "\n````"


def _names(one: Option) -> str:
    """An option as it is typed, with a letter for its value."""
    if one.value_type is bool:
        return f"{one.flag}, --no-{one.flag.removeprefix('--')}"
    if one.choices:
        return f"{one.flag} NAME"
    return f"{one.flag} {one.placeholder}"


def _about(one: Option) -> list[str]:
    """What there is to say of an option, a line each: its help, its values, when it may change."""
    values = []
    if one.value_type is bool:
        values.append(f"Default: {'on' if one.default else 'off'}")
    elif one.default != "":
        values.append(f"Default: {code(str(one.default))}")
    if one.choices:
        values.append(f"one of {', '.join(map(code, one.choices))}")
    if one.low is not None:
        values.append(f"above {one.low:g}" if one.open_low else f"at least {one.low:g}")
    if one.high is not None and one.high < LARGEST:  # larger ones bound the storage, not the sense
        values.append(f"at most {one.high:g}")
    lines = [sentence(text(one.help)), "; ".join(values) + "." if values else ""]
    if not one.changes_result:
        lines.append("The weights don't depend on it, so it may differ when a run resumes.")
    return [line for line in lines if line]
