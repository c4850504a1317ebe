"""What all commands share: options, mistakes in one line, plurals, exit statuses."""

import argparse
import difflib
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from dist_vgg import __version__
from dist_vgg.base.errors import KILLED_BY, UserError
from dist_vgg.base.launcher import launched

INFORMS = frozenset(("-h", "--help", "--version"))  # options that print something and do no more

NO_HINTS: Mapping[str, str] = MappingProxyType({})

# "python -m dist_vgg.train" and the like, as the user has called them if in another way.
spellings: dict[str, str] = {}


class Parser(argparse.ArgumentParser):
    """argparse whose mistakes are UserErrors, and which knows what was probably meant."""

    def __init__(self, hints: Mapping[str, str] = NO_HINTS, **options: Any) -> None:
        """`hints` say what to do instead of options that other programs have; without dashes."""
        super().__init__(**{"allow_abbrev": False, **options})
        self.prog = spellings.get(self.prog, self.prog)
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


def tell(words: str) -> None:
    """Write a line to stderr in one piece, so that the lines of several ranks don't mix."""
    # `print` writes words and line end apart, and another rank's words come between.
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()


def run_alone(name: str, main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Run a command that is one process and needs no MPI; end the process with its status.

    Of several that srun has started the first one works, since a shell may be one of them.
    """
    argv = sys.argv[1:]
    rank, size, launcher, speaks = launched()
    if size > 1 and launcher == "mpirun" and not INFORMS & set(argv):
        if speaks:
            command = name.rpartition(".")[2]
            tell(f"{name}: error: {command} is one process: start it without mpirun")
        sys.exit(UserError.status)
    sys.exit(0 if rank else guarded(name, lambda: main(argv)))


def guarded(name: str, call: Callable[[], int]) -> int:
    """The status that a command of one process ends with; a mistake is told in one line."""
    try:
        status = call()
        sys.stdout.flush()
    except UserError as error:
        tell(f"{name}: error: {error}")
        return error.status
    except KeyboardInterrupt as error:
        tell(f"{name}: interrupted" + "".join(f"; {words}" for words in error.args))
        return KILLED_BY + signal.SIGINT
    except BrokenPipeError:
        # Whoever read our output has gone, as in `| head`; there is nobody to tell.
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
        return KILLED_BY + signal.SIGPIPE
    except OSError as error:
        if error.filename is None:
            raise
        tell(f"{name}: error: can't use {error.filename}: {error.strerror}")
        return UserError.status
    return status
