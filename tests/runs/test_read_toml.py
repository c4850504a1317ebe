"""Options from a TOML file: read, and refused in one line where anything is wrong."""

import os
import re
from pathlib import Path

import pytest

from dist_vgg.base.errors import UserError
from dist_vgg.runs.config import TrainConfig
from dist_vgg.runs.recipes import read_toml


def toml(folder: Path, text: str) -> str:
    path = folder / "options.toml"
    path.write_text(text, "utf-8")
    return str(path)


def test_toml_names_with_either_dash_and_whole_numbers_for_floats(tmp_path: Path) -> None:
    text = 'micro-batch = 8\nweight_decay = 0\nnesterov = true\nout = "läufe/1"  # ü\n'
    found = read_toml(toml(tmp_path, text))
    assert found == dict(micro_batch=8, weight_decay=0.0, nesterov=True, out="läufe/1")
    assert type(found["weight_decay"]) is float


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
