"""The export command: what it writes in each format, what others do with it, what it refuses."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from trained import COLOURS, DIGITS, SHORT, same, some_weights

from dist_vgg import evaluate, export
from dist_vgg.base.errors import UserError
from dist_vgg.formats import trained
from dist_vgg.formats.trained import read_trained
from dist_vgg.state.checksums import parameter_digest
from dist_vgg.state.weights import load_weights, save_weights

pytestmark = pytest.mark.usefixtures("quick_disk")


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with weights, and an empty current folder beside it."""
    (tmp_path / "run").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    save_weights(tmp_path / "run" / "weights.h5", some_weights(DIGITS))
    return tmp_path / "run"


def ran(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    """The line that an export prints."""
    assert export.main([str(arg) for arg in argv]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    return line


@pytest.mark.parametrize(("precision", "each"), [(None, 4), ("float16", 2), ("int8", 1)])
def test_smaller_weights(
    run_folder: Path, capsys: pytest.CaptureFixture[str], precision: str | None, each: int
) -> None:
    options = ("--precision", precision) if precision else ()
    line = ran(capsys, run_folder, "--to", "weights", *options)
    name = f"run-{precision}.h5" if precision else "run.h5"
    (path,) = Path().iterdir()
    found, old = load_weights(path), some_weights(DIGITS)
    size = path.stat().st_size
    assert 0 < size - each * found.params.size < 10_000
    assert line == (
        f"{name}   {size:,} bytes, {precision or 'float32'}, parameters {found.sha256[:16]}"
    )
    assert found.sha256 == parameter_digest(found.params)
    assert found.made_from == (old.sha256 if precision else "")
    assert (found.sha256 == old.sha256) == (precision is None)
    np.testing.assert_allclose(found.params, old.params, atol=np.abs(old.params).max() / 200)


def test_each_format_goes_to_the_current_folder(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for to in ("safetensors", "onnx"):
        assert ran(capsys, run_folder, "--to", to).startswith(f"run.{to}   ")
    assert ran(capsys, run_folder, "--to", "onnx", "--precision", "int8").startswith(
        "run-int8.onnx"
    )
    assert ran(capsys, run_folder / "weights.h5", "--to", "onnx").startswith("weights.onnx   ")
    same(read_trained("run.safetensors"), some_weights(DIGITS))
    onnx.checker.check_model(onnx.load("run-int8.onnx"), full_check=True)


def test_what_was_exported_is_exported_again(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran(capsys, run_folder, "--to", "weights", "--precision", "int8")
    small = load_weights("run-int8.h5")
    # The same levels, since a scale leaves room for them.
    ran(capsys, "run-int8.h5", "--to", "weights", "--precision", "int8", "--out", "again.h5")
    assert Path("again.h5").read_bytes() == Path("run-int8.h5").read_bytes()
    # In float32 these are the parameters that int8 stands for, and the file says so.
    ran(capsys, "run-int8.h5", "--to", "safetensors")
    expected = replace(small, precision="float32", layout=())
    same(read_trained("run-int8.safetensors"), expected)
    ran(capsys, "run-int8.safetensors", "--to", "weights", "--out", "large.h5")
    assert load_weights("large.h5").precision == "float32"
    assert load_weights("large.h5").sha256 == small.sha256


def test_without_weights_those_of_the_package(
    run_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = r"no weights .*digits\.h5"
    monkeypatch.setattr(export, "SHIPPED", trained.SHIPPED.with_name("none") / "digits.h5")
    with pytest.raises(UserError, match=line):
        export.main(["--to", "weights"])
    monkeypatch.setattr(export, "SHIPPED", run_folder / "weights.h5")
    assert ran(capsys, "--to", "onnx").startswith("weights.onnx   ")


@pytest.mark.parametrize("out", ["model/", "there"])
def test_a_folder_gets_a_card(
    run_folder: Path, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    Path("there").mkdir()
    target = Path(out)
    assert ran(capsys, run_folder, "--to", "safetensors", "--out", out).startswith(
        f"{target / 'model.safetensors'}   "
    )
    weights = some_weights(DIGITS)
    assert sorted(path.name for path in target.iterdir()) == [
        "README.md", "config.json", "model.safetensors",
    ]  # fmt: skip
    same(read_trained(target), weights)
    card = (target / "README.md").read_text()
    assert card.startswith('---\nlicense: "mit"\n')
    assert f"# {target}\n" in card and "## Accuracy" not in card and "## Training" not in card
    config = json.loads((target / "config.json").read_text())
    assert config["input_size"] == [1, 64, 64] and config["network"] == DIGITS
    assert (config["num_classes"], config["parameters"]) == (10, weights.params.size)
    assert config["sha256"] == weights.sha256 and config["mean"] == [33.3]
    # Once more, and the three files are replaced.
    save_weights(run_folder / "weights.h5", some_weights(SHORT))
    ran(capsys, run_folder, "--to", "safetensors", "--out", target, "--license", "apache-2.0")
    same(read_trained(target), some_weights(SHORT))
    assert 'license: "apache-2.0"' in (target / "README.md").read_text()
    assert len(list(target.iterdir())) == 3


def test_the_card_has_what_evaluate_found(
    data: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mpi4py import MPI

    save_weights(run_folder / "weights.h5", some_weights({**DIGITS, "size": 32}))
    argv = ["--data", str(data), "--json", "scores.json"]
    assert evaluate.main([str(run_folder), *argv], MPI.COMM_SELF) == 0
    found = json.loads(Path("scores.json").read_text())
    capsys.readouterr()
    to = (run_folder, "--to", "safetensors", "--out", "model/", "--metrics", "scores.json")
    ran(capsys, *to)
    words = f"{found['accuracy']:.2%} of the 20 test images"
    assert words in Path("model/README.md").read_text()
    # Of other parameters it is no score. Those of the folder itself can be evaluated.
    half = (*to, "--precision", "float16")
    with pytest.raises(UserError, match=r"--metrics scores\.json is of the parameters"):
        export.main([str(arg) for arg in half])
    ran(capsys, *half[:5], *half[7:])
    assert evaluate.main(["model", *argv], MPI.COMM_SELF) == 0
    capsys.readouterr()
    ran(capsys, *half)
    assert ", in float16 |" in Path("model/README.md").read_text()


REFUSED: list[tuple[list[str], str]] = [
    (["--to", "cake"], "invalid choice: 'cake'"),
    (["--to", "onnx", "--precision", "int4"], "invalid choice: 'int4'"),
    (["--to", "onnx", "--out", "gone/a.onnx"], "can't write --out gone/a.onnx: No such file"),
    (["--to", "onnx", "--out", "a/"], "--to onnx writes a file and --out a is a folder; name a"),
    (["--to", "weights", "--out", "."], "--to weights writes a file and --out . is a folder"),
    (["--to", "safetensors", "--precision", "int8"], "safetensors has no int8 with scales"),
    (["--to", "html", "--precision", "float16"], "--to html is int8, not float16"),
    (["--to", "onnx", "--metrics", "a"], "--metrics is for a model card, which --to safetensors"),
    (["--to", "safetensors", "--license", "x"], "--license is for a model card"),
    (["--to", "safetensors", "--out", "gone/a/"], "can't write --out gone/a: No such file"),
    (
        ["--to", "safetensors", "--out", "a/", "--license", "My Own"],
        "--license 'My Own' is no licence's id; name one such as mit or apache-2.0",
    ),
    (["--to", "safetensors", "--out", "a/", "--metrics", "gone"], "can't read --metrics gone"),
    (
        ["--to", "safetensors", "--out", "work"],
        "--out work has a README.md that is not of an export; name a new folder",
    ),
    (
        ["--to", "safetensors", "--out", "old-run"],
        "--out old-run has a config.json that is not of an export; name a new folder",
    ),
]


@pytest.mark.parametrize(("options", "words"), REFUSED)
def test_a_mistake_is_one_line_and_nothing_is_written(
    run_folder: Path, options: list[str], words: str
) -> None:
    for folder, name in (("work", "README.md"), ("old-run", "config.json")):
        Path(folder).mkdir()
        Path(folder, name).write_text("mine")
    before = sorted(Path().rglob("*"))
    with pytest.raises(UserError) as raised:
        export.main([str(run_folder), *options])
    assert words in str(raised.value) and "\n" not in str(raised.value)
    assert sorted(Path().rglob("*")) == before
    assert Path("work/README.md").read_text() == Path("old-run/config.json").read_text() == "mine"


def test_a_missing_package_is_one_line(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for to, names in (("onnx", ["onnx"]), ("safetensors", ["safetensors", "safetensors.numpy"])):
        for name in names:
            monkeypatch.setitem(sys.modules, name, None)
        words = rf"--to {to} needs the package {to}, .*: pip install 'dist_vgg\[export\]'$"
        with pytest.raises(UserError, match=words):
            export.main([str(run_folder), "--to", to])
    assert not list(Path().iterdir())


def infinite(params: np.ndarray) -> None:
    params[7] = np.inf


def large(params: np.ndarray) -> None:
    params[7] = 1e6


@pytest.mark.parametrize(
    ("change", "precision", "words"),
    [
        (infinite, "float32", "the weights are not all finite, so there is nothing to export"),
        (infinite, "int8", "the weights are not all finite, so there is nothing to export"),
        (large, "float16", "a weight is too large for float16; choose int8"),
    ],
)
def test_weights_that_a_precision_can_not_hold(
    run_folder: Path, change: Callable[[np.ndarray], None], precision: str, words: str
) -> None:
    weights = some_weights(COLOURS)
    change(weights.params)
    save_weights(run_folder / "weights.h5", weights)
    with pytest.raises(UserError, match=words):
        export.main([str(run_folder), "--to", "onnx", "--precision", precision])
    assert not list(Path().iterdir())
