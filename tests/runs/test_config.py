"""Options: from the command line, a TOML file and Python, all checked alike."""

import contextlib
import io
import os
import re
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest

from dist_vgg.base.errors import UserError
from dist_vgg.runs.config import HINTS, TrainConfig, read_toml, train_parser

NAMES = [f.name for f in fields(TrainConfig)]


def parse(*argv: str) -> dict[str, Any]:
    return vars(train_parser().parse_args(argv))


def toml(folder: Path, text: str) -> str:
    path = folder / "options.toml"
    path.write_text(text, "utf-8")
    return str(path)


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
    found = re.findall(r"^  (--[a-z-]+)(.*?)(?=^  -|^$|\Z)", output.getvalue(), re.S | re.M)
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
        assert set(re.findall(r"--[a-z-]+", hint)) <= known


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


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", 0, r"--epochs 0 is out of range: it must be at least 1 and at most 2147483647$"),
        ("epochs", -1, "--epochs -1 is out of range"),
        (
            "micro_batch",
            0,
            "--micro-batch 0 is out of range: it must be at least 1 and at most 2147483647$",
        ),
        ("width", 0.0, "--width 0.0 is out of range: it must be above 0 and at most 4$"),
        ("width", 4.1, "at most 4"),
        ("width", float("nan"), "--width nan is out of range"),
        ("dropout", 1.0, "at least 0 and at most 0.95"),
        ("dropout", -0.1, "--dropout -0.1"),
        ("lr", -0.1, "--lr -0.1 is out of range: it must be at least 0"),
        ("lr", float("nan"), "--lr nan is out of range"),
        ("lr", float("inf"), "--lr inf is out of range: it must be at least 0 and finite"),
        ("lr", float("-inf"), "--lr -inf is out of range"),
        ("momentum", 1.0, "--momentum 1.0"),
        ("weight_decay", -1e-4, "--weight-decay"),
        ("clip", -1.0, "--clip"),
        ("clip", float("nan"), "--clip nan"),
        ("warmup", -1, "--warmup"),
        ("limit", -1, "--limit"),
        ("keep", 0, "--keep"),
        ("seed", -1, "--seed"),
        ("seed", 2**63, "--seed"),
        ("blas_threads", 0, "--blas-threads"),
        ("optimizer", "adamw", "--optimizer adamw: choose one of sgd, adam, adagrad"),
        ("schedule", "", "--schedule : choose one of constant, step, cosine"),
        ("route", "ring", "--route ring: choose one of"),
        ("progress", "loud", "--progress loud: choose one of"),
        ("conv", "direct", "--conv direct: choose one of fast, reference$"),
    ],
)
def test_values_out_of_range(name: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        TrainConfig(**{name: value})


def test_the_ends_of_a_range_are_in_it() -> None:
    TrainConfig(width=4.0, dropout=0.95, epochs=1, lr=0.0, momentum=0.0, seed=2**63 - 1, keep=1)


def test_a_configuration_can_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        TrainConfig().lr = 1.0  # type: ignore[misc]


def test_without_a_rate_the_optimizer_has_its_own() -> None:
    assert TrainConfig(lr=0.3).base_lr == 0.3
    rates = [TrainConfig(optimizer=name).base_lr for name in ("sgd", "adam", "adagrad")]
    assert rates == [0.01, 1e-4, 1e-3]


def test_toml_names_with_either_dash_and_whole_numbers_for_floats(tmp_path: Path) -> None:
    text = 'micro-batch = 8\nweight_decay = 0\nnesterov = true\nout = "läufe/1"  # ü\n'
    found = read_toml(toml(tmp_path, text))
    assert found == dict(micro_batch=8, weight_decay=0.0, nesterov=True, out="läufe/1")
    assert type(found["weight_decay"]) is float


def test_the_command_line_goes_over_toml_and_toml_over_defaults(tmp_path: Path) -> None:
    given = {**read_toml(toml(tmp_path, "lr = 0.5\nepochs = 3")), **parse("--epochs", "4")}
    config = TrainConfig(**given)
    assert (config.lr, config.epochs, config.seed) == (0.5, 4, 0)


def test_a_saved_configuration_is_a_configuration_again() -> None:
    config = TrainConfig(lr=0.5, nesterov=True, out="runs/a")
    assert TrainConfig(**config.as_dict()) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("momentun = 1", r"has the unknown option momentun; did you mean momentum\?"),
        ("micro-bach = 1", r"unknown option micro-bach; did you mean micro-batch\?"),
        ("xyzzy = 1", "unknown option xyzzy$"),
        ("batch_size = 8", "unknown option batch_size; the batch of a step is --micro-batch N"),
        ("[sgd]\nlr = 1.0", "unknown option sgd"),
        ("epochs = 2.0", "epochs = 2.0 should be of type int"),
        ("epochs = true", "epochs = True should be of type int"),
        ("nesterov = 1", "nesterov = 1 should be of type bool"),
        ("lr = '1'", "lr = '1' should be of type float"),
        ("lr = true", "lr = True should be of type float"),
        ("data = 3", "data = 3 should be of type str"),
        ("lr =", "is not TOML: "),
        ("lr = 1\nlr = 2", "is not TOML: "),
    ],
)
def test_mistakes_in_toml(tmp_path: Path, text: str, message: str) -> None:
    path = toml(tmp_path, text)
    with pytest.raises(UserError, match=f"--config {re.escape(path)}.*{message}") as raised:
        read_toml(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["lr = nan", "lr = inf", "lr = -1"])
def test_a_bad_rate_in_toml(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match=r"--lr .* is out of range"):
        TrainConfig(**read_toml(toml(tmp_path, text)))


LYING_TOML = {
    "deep": "lr = " + "[" * 10_000,
    "deep tables": "lr = {a = " * 2000,
    "long number": "epochs = " + "9" * 5000,
    "long hexadecimal number": "epochs = 0x" + "f" * 5000,
    "long hexadecimal number within": "lr = [0x" + "f" * 5000 + "]",
    "endless": "# nothing\n" * 4000,
    "long name": "x" * 5000 + " = 1",
    "name of two lines": '"a\\nb" = 1',
    "colours": 'data = "\\u001b[31m"',
    "nothing at the end": 'out = "runs/a\\u0000"',
    "long text": "out = '" + "x" * 5000 + "'",
    "date": "lr = 1979-05-27T07:32:00Z",
    "time": "lr = 07:32:00",
    "not a number": "lr = nan",
}


@pytest.mark.parametrize("what", LYING_TOML)
def test_toml_that_lies_is_refused_in_one_line(what: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        TrainConfig(**read_toml(toml(tmp_path, LYING_TOML[what])))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_toml_that_never_ends(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    for endless in (path, Path("/dev/zero")):
        with pytest.raises(UserError, match="it is no file"):
            read_toml(str(endless))


def test_toml_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"can't read --config .*gone.toml: No such file"):
        read_toml(str(tmp_path / "gone.toml"))
    with pytest.raises(UserError, match=r"can't read --config .*: Is a directory"):
        read_toml(str(tmp_path))
    (tmp_path / "latin.toml").write_bytes(b'out = "l\xe4ufe"')
    with pytest.raises(UserError, match=r"latin.toml is not TOML"):
        read_toml(str(tmp_path / "latin.toml"))


def test_result_options_are_all_but_files_and_display() -> None:
    left_out = set(NAMES) - set(TrainConfig().result_options())
    files = {"data", "out", "keep", "checkpoint_every", "checkpoint_minutes"}
    assert left_out == files | {"route", "progress", "standby", "audit", "stall_timeout"}
    assert TrainConfig(route="node").result_options() == TrainConfig().result_options()
    for other in (TrainConfig(lr=0.5), TrainConfig(conv="reference")):
        assert other.result_options() != TrainConfig().result_options()
