"""--precision bfloat16: the same bits at any ranks, kept for a run's life, and for its network."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import launcher
import numpy as np
import pytest
from launcher import one_line, train
from narrow_network import KEY, LABELS, images, network
from sets import KERNELS
from training import EPOCHS, SMALL, outcome

from dist_vgg.base.errors import UserError
from dist_vgg.kernels import amx, sets
from dist_vgg.runs.config import TrainConfig
from dist_vgg.state.checkpoint import load_newest
from dist_vgg.state.weights import load_weights
from dist_vgg.training.rounded_check import check_rounded

if sets.COMPILED not in KERNELS:
    pytest.skip("Numba is not installed", allow_module_level=True)

HALF = ("--precision", "bfloat16", "--schedule", "constant", *SMALL)


def trained(ranks: int, data: Path, folder: Path, *options: object) -> Path:
    status, output, errors = train(ranks, "--data", data, "--out", folder, *HALF, *options)
    assert status == 0, errors
    assert re.search(r"^kernels bfloat16 1 \(Numba [\d.]+, (emulated: |on AMX)", output, re.M)
    return folder


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process that nothing happened to."""
    return trained(1, data, tmp_path_factory.mktemp("bfloat16") / "run", *EPOCHS)


@pytest.mark.parametrize(("ranks", "route"), [(2, "flat"), (3, "node"), (3, "flat")])
def test_same_bits_at_any_ranks_and_route(
    ranks: int, route: str, data: Path, whole: Path, tmp_path: Path
) -> None:
    folder = trained(ranks, data, tmp_path / "run", "--route", route, *EPOCHS)
    assert outcome(folder) == outcome(whole)


def test_a_run_goes_on_in_its_precision_and_in_no_other(
    data: Path, whole: Path, tmp_path: Path
) -> None:
    folder = trained(2, data, tmp_path / "run", "--epochs", 1)
    again = ("--resume", "--out", folder, "--data", data)
    status, _, errors = train(1, *again, "--precision", "float32")
    assert status == 2
    words = "--precision float32 contradicts the checkpoint, trained with --precision bfloat16"
    assert words in one_line(errors)
    status, _, errors = train(1, *again, *EPOCHS)
    assert status == 0, errors
    assert outcome(folder) == outcome(whole)


def test_its_files_say_so(whole: Path) -> None:
    content = json.loads((whole / "config.json").read_text())
    assert (content["config"]["kernels"], content["config"]["precision"]) == (
        "compiled",
        "bfloat16",
    )
    assert load_newest(whole / "checkpoints", print).config["precision"] == "bfloat16"
    assert (load_weights(whole).kernels, load_weights(whole).kernels_version) == ("bfloat16", 1)


def test_its_network_is_computed_in_either_precision(
    data: Path, whole: Path, tmp_path: Path
) -> None:
    losses = {}
    for name, precision in (("own", ()), *((p, ("--precision", p)) for p in sets.PRECISIONS[1:])):
        options = (whole, "--data", data, "--json", tmp_path / name, *precision)
        status, output, errors = launcher.run(1, "-m", "dist_vgg.evaluate", *options)
        assert status == 0, errors
        assert ("kernels bfloat16 1 (" in output) == (name != "float32")
        losses[name] = json.loads((tmp_path / name).read_text())["loss"]
    assert losses["own"] == losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=1e-2)


def test_debug_checks_each_layer(data: Path, whole: Path, tmp_path: Path) -> None:
    options = ("--debug", "--data", data, "--out", tmp_path / "run", *HALF, *EPOCHS)
    status, output, errors = train(1, *options)
    assert status == 0, errors
    assert "against the reference's in float64" in output and "all 32 gradients agree" in output
    assert outcome(tmp_path / "run") == outcome(whole)


@pytest.mark.parametrize("operation", ["conv2d_backward", "linear_backward", "conv2d_forward"])
def test_the_check_finds_a_wrong_layer(operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, params, _ = network(0.05, 0, "bfloat16")
    assert check_rounded(net, params, images(), LABELS, KEY) < 2.0**-8
    right = getattr(net.ops, operation)

    def wrong(*given: Any, **named: Any) -> np.ndarray:
        found: np.ndarray = right(*given, **named)
        if operation != "conv2d_forward":
            given[3][:] *= 1.02  # dw
        elif len(found[0]) == 8:
            found[..., 0] = 0
        return found

    monkeypatch.setattr(net.ops, operation, wrong)
    with pytest.raises(UserError, match=r"^the (gradient|output) of layer \w+ is wrong"):
        check_rounded(net, params, images(), LABELS, KEY)


@pytest.mark.parametrize(
    ("kernels", "precision", "expected"),
    [
        ("auto", "bfloat16", "bfloat16"),
        ("compiled", "bfloat16", "bfloat16"),
        ("compiled", "float32", "compiled"),
        ("numpy", "float32", "numpy"),
    ],
)
def test_the_set_of_an_options_pair(kernels: str, precision: str, expected: str) -> None:
    config = TrainConfig(kernels=kernels, precision=precision)
    assert config.kernel_set == config.settled().kernel_set == expected


@pytest.mark.parametrize("kernels", ["numpy", "reference"])
def test_other_kernels_have_no_bfloat16(kernels: str) -> None:
    line = f"^--precision bfloat16 needs compiled kernels: leave --kernels {kernels} out$"
    with pytest.raises(UserError, match=line):
        TrainConfig(kernels=kernels, precision="bfloat16").settled()


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (("bfloat16", "auto", "own"), "bfloat16"),
        (("bfloat16", "numpy", "own"), "numpy"),
        (("bfloat16", "compiled", "float32"), "compiled"),
        (("numpy", "auto", "own"), "compiled"),
        (("numpy", "auto", "bfloat16"), "bfloat16"),
    ],
)
def test_the_set_that_computes_a_trained_network(asked: Sequence[str], expected: str) -> None:
    assert sets.set_for(*asked) == expected


def test_without_numba_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "why_missing", lambda name: "Numba can't be imported (no numba)")
    with pytest.raises(UserError) as found:
        sets.load(TrainConfig(precision="bfloat16").settled().kernel_set)
    assert str(found.value) == (
        "--precision bfloat16 is missing: Numba can't be imported (no numba); "
        "install it with: pip install 'dist_vgg[fast]'"
    )
    assert sets.set_for("bfloat16", "auto", "own") == "numpy"


def test_tiles_can_be_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    amx.why_not.cache_clear()
    monkeypatch.setenv("DIST_VGG_AMX", "off")
    try:
        assert amx.why_not() == "DIST_VGG_AMX is off"
    finally:
        amx.why_not.cache_clear()
