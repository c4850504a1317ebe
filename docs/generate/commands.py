"""The options of every command, from the parser that the command itself uses."""

import argparse
import importlib
import re
import signal
from collections.abc import Callable, Iterator
from typing import Any, NoReturn
from unittest import mock

from dist_vgg.__main__ import COMMANDS
from dist_vgg.base.errors import STOPS

from .markdown import prose, sentence, text
from .options import option

# What every parser has is said once, on the page.
EVERYWHERE = ("-h", "--version")
# The options of train's dataclass have a page of their own.
TRAIN = "dist_vgg.train"


class _Captured(BaseException):
    """Carries a parser out of the command that has just made it."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


def all_commands() -> str:
    """A chapter for each command: what it is for, how to call it, and its options."""
    return "\n\n".join(chapter(name) for name in COMMANDS.values()) + "\n"


def chapter(command: str) -> str:
    """One command in Markdown."""
    module, parser = importlib.import_module(_module(command)), parser_of(command)
    parts = [f"({_anchor(command)})=\n## {command.rpartition('.')[2]}", prose(module.__doc__ or "")]
    parts.append(_options(command, parser))
    for name, about, sub in _subcommands(parser):
        parts += [f"### {command.rpartition('.')[2]} {name}", sentence(text(about))]
        parts.append(_options(f"{command} {name}", sub))
    return "\n\n".join(filter(None, parts))


def parser_of(command: str) -> argparse.ArgumentParser:
    """The parser of a command: from its function that makes it, else from a start that goes no
    further than to parse its options."""
    module = importlib.import_module(_module(command))
    for name in ("own_parser", "parser", "train_parser"):
        make: Callable[[], argparse.ArgumentParser] | None = getattr(module, name, None)
        if callable(make) and (parser := make()).prog == f"python -m {command}":
            return parser

    def capture(parser: argparse.ArgumentParser, *arguments: Any, **options: Any) -> NoReturn:
        raise _Captured(parser)

    before = {number: signal.getsignal(number) for number in STOPS}
    try:
        with mock.patch.object(argparse.ArgumentParser, "parse_known_args", capture):
            module.main(["--help"])
    except _Captured as captured:
        return captured.parser
    finally:
        for number, handler in before.items():  # elastic and sweep have set their own
            signal.signal(number, handler)
    raise AssertionError(f"{command} parses no options")


def _module(command: str) -> str:
    """The module that `python -m` runs."""
    package = importlib.import_module(command)
    return f"{command}.__main__" if hasattr(package, "__path__") else command


def _anchor(command: str) -> str:
    return "command-" + command.rpartition(".")[2].replace("_", "-")


def _options(program: str, parser: argparse.ArgumentParser) -> str:
    """The options of a parser that are its own, in the order of its help."""
    parts = [f"```{{program}} {program}\n```"]
    for action, group in _actions(parser):
        if program == TRAIN and not group.startswith("debugging") and not _is_extra(action):
            continue
        formatter = parser._get_formatter()
        help = formatter._expand_help(action) if action.help else ""
        parts.append(option(_names(action), [text(help)] if help else []))
    return "\n\n".join(parts) if len(parts) > 1 else ""


def _actions(parser: argparse.ArgumentParser) -> Iterator[tuple[argparse.Action, str]]:
    """Each option that the help shows, with the title of its group."""
    for group in parser._action_groups:
        for action in group._group_actions:
            shown = action.help != argparse.SUPPRESS
            informs = set(EVERYWHERE) & set(action.option_strings)
            if shown and not informs and not isinstance(action, argparse._SubParsersAction):
                yield action, group.title or ""


def _is_extra(action: argparse.Action) -> bool:
    """Whether an option of train is none of its dataclass."""
    from dist_vgg.runs.config import TrainConfig

    return action.dest not in TrainConfig.__dataclass_fields__


def _names(action: argparse.Action) -> str:
    """An option as it is typed, with its value."""
    value = action.metavar or ""
    if isinstance(value, tuple):
        value = " ".join(value)
    if not action.option_strings:
        return f"{value or action.dest}{' ...' if action.nargs in ('+', '*') else ''}"
    if action.nargs != 0 and not isinstance(action, argparse.BooleanOptionalAction):
        value = value or ("|".join(map(str, action.choices or ())) or action.dest.upper())
        value = f"[{value}]" if action.nargs == "?" else value
    return ", ".join(f"{name} {value}".rstrip() for name in action.option_strings)


def _subcommands(
    parser: argparse.ArgumentParser,
) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Name, purpose and parser of each command within a command."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, sub in action.choices.items():
                yield name, re.sub(r"\s+", " ", helps.get(name, "")), sub
