"""What all programs share in speaking to a person: options, mistakes in one line, plurals."""

import argparse
import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NoReturn

from dist_vgg import __version__
from dist_vgg.base.errors import UserError

INFORMS = frozenset(("-h", "--help", "--version"))  # options that print something and do no more

NO_HINTS: Mapping[str, str] = MappingProxyType({})


class Parser(argparse.ArgumentParser):
    """argparse whose mistakes are UserErrors, and which knows what was probably meant."""

    def __init__(self, hints: Mapping[str, str] = NO_HINTS, **options: Any) -> None:
        """`hints` say what to do instead of options that other programs have; without dashes."""
        super().__init__(**{"allow_abbrev": False, **options})
        self._hints = hints
        if self.add_help:
            self.add_argument("--version", action="version", version=f"dist_vgg {__version__}",
                              help="show the program's version and exit")  # fmt: skip

    def error(self, message: str) -> NoReturn:
        """Turn argparse's own exit into one line that every rank agrees on."""
        prefix = "unrecognized arguments: "
        if message.startswith(prefix):
            words = message.removeprefix(prefix).split()
            option = next((word for word in words if word.startswith("-")), "").split("=")[0]
            hint = nearest(option, self._option_string_actions, self._hints)
            message = (
                f"unknown option {option}{hint}" if option else f"unexpected argument {words[0]}"
            )
        raise UserError(f"{message}; see {self.prog} --help")


def nearest(unknown: str, known: Iterable[str], hints: Mapping[str, str] = NO_HINTS) -> str:
    """What ends a complaint: a hint, or which of the known names was meant; may be empty."""
    # Without the dashes, which all options share.
    names = {name.lstrip("-"): name for name in known}
    wanted = unknown.lstrip("-")
    if wanted in hints:
        return f"; {hints[wanted]}"
    matches = difflib.get_close_matches(wanted, names, n=1)
    return f"; did you mean {names[matches[0]]}?" if matches else ""


def plural(count: int, noun: str) -> str:
    """A count and what it counts: 1 shard, 2 shards."""
    return f"{count:,} {noun}" + "s" * (count != 1)
