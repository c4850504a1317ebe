"""An option is a field of a configuration that also knows its help text and the values it takes.

`TrainConfig` (config.py) declares its fields with `option`. The command line, the checks of values
and the reference in the documentation all read them back through `describe_options`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from dist_vgg.base.errors import UserError

LARGEST = 2**31 - 1  # the upper bound of whole numbers that have no other


@dataclass(frozen=True)
class Option:
    """What users need to know of one option."""

    name: str  # as in Python and in config.json
    default: Any  # a bool, int, float or str
    group: str  # the heading under which --help lists it
    help: str
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    open_low: bool = False  # whether `low` itself is excluded
    changes_result: bool = True  # whether the trained weights depend on it
    metavar: str = ""  # what stands for its value in help; "" for the usual letter

    @property
    def flag(self) -> str:
        """How the command line spells it."""
        return flag(self.name)

    @property
    def value_type(self) -> type:
        """bool, int, float or str."""
        return type(self.default)

    @property
    def placeholder(self) -> str:
        """What stands for its value in help, where it has no choices."""
        return self.metavar or {str: "DIR", int: "N", float: "X", bool: ""}[self.value_type]

    @property
    def allowed(self) -> str:
        """The values that it accepts, in words; "" where any value of its type will do."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.low is None:
            return ""
        least = f"above {self.low}" if self.open_low else f"at least {self.low}"
        if self.high is not None:
            return f"{least} and at most {self.high}"
        return f"{least} and finite" if self.value_type is float else least

    def check(self, value: Any) -> None:
        """Raise UserError for a value that the option does not accept."""
        if self.choices:
            if value not in self.choices:
                raise UserError(f"{self.flag} {value}: choose {self.allowed}")
            return
        # "not inside" instead of "outside", so that NaN is refused too.
        above = self.low is None or (value > self.low if self.open_low else value >= self.low)
        if not (above and (self.high is None or value <= self.high) and value != float("inf")):
            raise UserError(f"{self.flag} {value} is out of range: it must be {self.allowed}")


def option(
    default: Any,
    group: str,
    help: str,
    choices: Sequence[str] = (),
    low: float | None = None,
    high: float | None = None,
    open_low: bool = False,
    changes_result: bool = True,
    metavar: str = "",
) -> Any:
    """Declare a dataclass field as an option; the arguments are those of `Option`."""
    if type(default) is int and high is None:
        high = LARGEST
    return field(
        default=default,
        metadata=dict(
            group=group,
            help=help,
            choices=tuple(choices),
            low=low,
            high=high,
            open_low=open_low,
            changes_result=changes_result,
            metavar=metavar,
        ),
    )


def describe_options(config: Any) -> list[Option]:
    """The options of a configuration class or of one of its instances, in order."""
    return [Option(f.name, f.default, **f.metadata) for f in fields(config)]


def flag(name: str) -> str:
    """How the command line spells an option: --micro-batch for micro_batch."""
    return "--" + name.replace("_", "-")
