"""The command line of training: every option, its help, and what it says to mistakes."""

import contextlib
import io
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from dist_vgg.base.errors import UserError
from dist_vgg.runs.config import TrainConfig
from dist_vgg.runs.hints import HINTS
from dist_vgg.runs.options import train_parser
from dist_vgg.runs.recipes import read_toml

NAMES = [f.name for f in fields(TrainConfig)]


def parse(*argv: str) -> dict[str, Any]:
    return vars(train_parser().parse_args(argv))


def test_the_command_line_has_only_what_was_given() -> None:
    # Else defaults would override what a TOML file or a checkpoint says.
    assert parse() == {}
    assert parse("--lr", "0.1", "--micro-batch=8", "--nesterov", "--no-nesterov") == dict(
        lr=0.1, micro_batch=8, nesterov=False
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_option_reaches_the_configuration(name: str) -> None:
    value = getattr(TrainConfig(), name)
    flag = "--" + name.replace("_", "-")
    argv = [flag] if isinstance(value, bool) else [flag, str(value)]
    found = TrainConfig(**parse(*argv)).as_dict()[name]
    assert type(found) is type(value)
    assert found == (True if isinstance(value, bool) else value)


def help_texts() -> dict[str, str]:
    """What --help says of each option, by its flag."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), pytest.raises(SystemExit) as end:
        train_parser().parse_args(["--help"])
    assert end.value.code == 0
    # An option starts its line with two blanks; an empty line ends the group.
    found = re.findall(r"^  (--[a-z0-9-]+)(.*?)(?=^  -|^$|\Z)", output.getvalue(), re.S | re.M)
    return {flag: " ".join(text.split()) for flag, text in found}


def test_help_lists_every_option_with_its_default() -> None:
    texts, defaults = help_texts(), TrainConfig().as_dict()
    for name, default in defaults.items():
        text = texts.pop("--" + name.replace("_", "-"))
        if default != "" and not isinstance(default, bool):
            assert text.endswith(f"(default: {default})"), text
    assert set(texts) == {"--version", "--config", "--resume", "--debug", "--pdb"}
    assert all(texts.values())


def test_hints_name_options_that_there_are() -> None:
    known = set(train_parser()._option_string_actions)
    assert not known & {f"--{name}" for name in HINTS}
    for hint in HINTS.values():
        assert set(re.findall(r"--[a-z0-9-]+", hint)) <= known


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["--lrr", "1"],
            r"unknown option --lrr; did you mean --lr\?; see python -m dist_vgg.train --help",
        ),
        (["--colour", "1"], r"unknown option --colour; see python"),
        (["--micro_batch", "1"], r"unknown option --micro_batch; did you mean --micro-batch\?"),
        (["--epoch=3"], r"unknown option --epoch; did you mean --epochs\?"),
        (["--xyzzy"], r"unknown option --xyzzy; see python"),
        (["--batch-size=8"], "unknown option --batch-size; the batch of a step is --micro-batch N"),
        (["--batch", "8"], "unknown option --batch; the batch of a step is --micro-batch N"),
        (["--learning-rate", "1"], r"unknown option --learning-rate; did you mean --lr\?"),
        (["--workers", "2"], "unknown option --workers; mpirun starts the ranks"),
        (["-n", "2"], "unknown option -n; mpirun starts the ranks"),
        (["--gpus=1"], "unknown option --gpus; it trains on CPUs"),
        (["data"], "unexpected argument data"),
        (
            ["--epochs", "many"],
            "argument --epochs: invalid int value: 'many'; see python -m dist_vgg.train --help",
        ),
        (["--epochs", "1.5"], "invalid int value"),
        (["--epochs"], "argument --epochs: expected one argument"),
        (["--optimizer", "adamw"], "argument --optimizer: invalid choice: 'adamw'"),
    ],
)
def test_mistakes_on_the_command_line(argv: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        parse(*argv)
    assert "\n" not in str(raised.value)


def test_the_command_line_goes_over_toml_and_toml_over_defaults(tmp_path: Path) -> None:
    path = tmp_path / "options.toml"
    path.write_text("lr = 0.5\nepochs = 3")
    given = {**read_toml(str(path)), **parse("--epochs", "4")}
    config = TrainConfig(**given)
    assert (config.lr, config.epochs, config.seed) == (0.5, 4, 0)
