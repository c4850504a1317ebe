"""What all programs share in speaking to a person: options, mistakes in one line, plurals."""

import argparse
import difflib
from collections.abc import Iterable
from typing import Any, NoReturn

from dist_vgg import __version__
from dist_vgg.errors import UserError

INFORMS = frozenset(("-h", "--help", "--version"))  # options that print something and do no more


class Parser(argparse.ArgumentParser):
    """argparse whose mistakes are UserErrors, and which knows what was probably meant."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})
        if self.add_help:
            self.add_argument("--version", action="version", version=f"dist_vgg {__version__}",
                              help="show the program's version and exit")  # fmt: skip

    def error(self, message: str) -> NoReturn:
        """Turn argparse's own exit into one line that every rank agrees on."""
        prefix = "unrecognized arguments: "
        if message.startswith(prefix):
            words = message.removeprefix(prefix).split()
            option = next((word for word in words if word.startswith("-")), "").split("=")[0]
            hint = nearest(option, self._option_string_actions)
            message = (
                f"unknown option {option}{hint}" if option else f"unexpected argument {words[0]}"
            )
        raise UserError(f"{message}; see {self.prog} --help")


def nearest(unknown: str, known: Iterable[str]) -> str:
    """A question that ends a complaint: which of the known names was meant; may be empty."""
    # Without the dashes, which all options share.
    names = {name.lstrip("-"): name for name in known}
    matches = difflib.get_close_matches(unknown.lstrip("-"), names, n=1)
    return f"; did you mean {names[matches[0]]}?" if matches else ""


def plural(count: int, noun: str) -> str:
    """A count and what it counts: 1 shard, 2 shards."""
    return f"{count:,} {noun}" + "s" * (count != 1)
