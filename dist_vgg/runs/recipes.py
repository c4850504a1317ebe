"""A recipe is a TOML file of training options: one that comes with dist_vgg, or the user's own."""

import sys
from pathlib import Path
from typing import Any

from dist_vgg.base.command_line import nearest
from dist_vgg.base.errors import UserError
from dist_vgg.runs.config import TrainConfig
from dist_vgg.runs.fields import LARGEST, Option, describe_options
from dist_vgg.runs.hints import HINTS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPES = Path(__file__).parents[1] / "recipes"  # TOML files, installed with the package
MAX_TOML = 1 << 15  # bytes; tomllib takes seconds for 32,000 dots in a key, and minutes for more
MAX_TEXT = 4096  # characters, as many as a path has


def recipes() -> list[str]:
    """The names of the recipes that come with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def read_toml(path: str) -> dict[str, Any]:
    """The options of a TOML file or recipe, by the names of the command line, with - or _.

    Raises UserError for a file that cannot be read, an unknown name or a value of a wrong type.
    """
    known = {option.name: option for option in describe_options(TrainConfig)}
    options: dict[str, Any] = {}
    for key, value in _parsed(path).items():
        name = key.replace("-", "_")
        if name not in known:
            names = [option.flag.removeprefix("--") for option in known.values()]
            hint = nearest(name.replace("_", "-"), names, HINTS)
            raise UserError(f"--config {path} has the unknown option {_shown(key)}{hint}")
        if name in options:
            raise UserError(
                f"--config {path} has the option {key} twice, once with - and once with _"
            )
        options[name] = _value(f"--config {path}: {key}", known[name], value)
    return options


def _parsed(path: str) -> dict[str, Any]:
    """The content of a TOML file; UserError where it cannot be read or is not TOML."""
    try:
        place = _file(path)
        if not place.is_dir() and not place.is_file() and place.exists():
            raise UserError(f"can't read --config {path}: it is no file")
        with place.open("rb") as file:
            data = file.read(MAX_TOML + 1)
        if len(data) > MAX_TOML:
            raise UserError(f"--config {path} is longer than {MAX_TOML:,} bytes; shorten it")
        content: dict[str, Any] = tomllib.loads(data.decode().replace("\r\n", "\n"))
        return content
    except FileNotFoundError as error:
        name = Path(path).stem
        hint = f"; did you mean --config {name}?" if name in recipes() else ""
        raise UserError(f"can't read --config {path}: {error.strerror}{hint}") from error
    except OSError as error:
        raise UserError(f"can't read --config {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError is one, a number too long too
        raise UserError(f"--config {path} is not TOML: {_shown(str(error))}") from error


def _file(text: str) -> Path:
    """The file that --config means: a path, or the name of a recipe."""
    # A folder may well have the name of its recipe, and is never meant.
    if "/" in text or text.endswith(".toml") or (Path(text).exists() and not Path(text).is_dir()):
        return Path(text)
    if text not in recipes():
        raise UserError(
            f"--config {_shown(text)} is no file and no recipe; the recipes are "
            f"{', '.join(recipes())}{nearest(text, recipes())}"
        )
    return RECIPES / f"{text}.toml"


def _value(where: str, option: Option, value: Any) -> Any:
    """A TOML value as one of the option's type; `where` opens the UserError for any other."""
    if option.value_type is float and type(value) is int:
        value = float(value) if abs(value) < LARGEST else float("inf")
    if type(value) is int and abs(value) >= 2**64:  # Python refuses to print the longest
        raise UserError(f"{where} is out of range")
    if type(value) is not option.value_type:
        # Do not show what is inside a table or array: a number there may be too long to print.
        found = "..." if isinstance(value, (dict, list)) else _shown(repr(value))
        raise UserError(f"{where} = {found} should be of type {option.value_type.__name__}")
    if type(value) is str and not (value.isprintable() and len(value) <= MAX_TEXT):
        raise UserError(f"{where} has characters that can't be shown, or more than {MAX_TEXT:,}")
    return value


def _shown(text: str) -> str:
    """A text from a file, made fit for one line on a terminal."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= 100 else line[:100] + "..."
