"""The same bits at any number of ranks with the fast convolution, which narrower runs don't use."""

from pathlib import Path
from typing import Any

import pytest
from launcher import one_line, train
from sets import each_set, in_some_cases

from dist_vgg.kernels import winograd
from dist_vgg.network.layers import Conv
from dist_vgg.network.vgg import vgg16
from dist_vgg.runs.log import read_metrics
from dist_vgg.state.weights import load_weights

WIDTH, MICRO_BATCH = 0.25, 4
OPTIONS = ("--width", WIDTH, "--micro-batch", MICRO_BATCH, "--epochs", 1, "--progress", "none")


def outcome(folder: Path) -> list[Any]:
    """The course of a run, and the hash of what came out."""
    steps = [(r["loss"], r["gradient_norm"]) for r in read_metrics(folder, "step")]
    return [*steps, load_weights(folder).sha256]


@pytest.fixture(scope="session")
def alone(data: Path, kernels: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    options = ("--data", data, "--out", folder, "--kernels", kernels)
    status, _, errors = train(1, *options, *OPTIONS)
    assert status == 0, errors
    return folder


def test_these_runs_use_it() -> None:
    # Of 61 images in 8 shards, the last micro-batch has 4 or 3 of each.
    for images, expected in ((MICRO_BATCH, 6), (3, 6)):
        net, found = vgg16(size=32, width=WIDTH), []
        shape = net.input_shape
        for layer in net.layers:
            if isinstance(layer, Conv):
                suits = winograd.suits((images, *shape), layer.weight_shape[-1])
                found += [layer.name] * suits
            shape = layer.output_shape(shape)
        assert len(found) == expected, found


@in_some_cases(
    ("ranks", "route"),
    each=[(2, "node"), (3, "flat"), (5, "node")],
    usual=[(2, "flat"), (3, "node"), (5, "flat")],
)
def test_same_bits_at_any_ranks_and_route(
    ranks: int, route: str, kernels: str, data: Path, alone: Path, tmp_path: Path
) -> None:
    options = ("--data", data, "--out", tmp_path / "run", "--route", route, "--kernels", kernels)
    status, output, errors = train(ranks, *options, *OPTIONS)
    assert status == 0, errors
    assert f"route {route}" in output
    assert outcome(tmp_path / "run") == outcome(alone)


@pytest.mark.parametrize("kernels", ["numpy"], indirect=True, scope="session")
def test_the_direct_convolution_rounds_differently(data: Path, alone: Path, tmp_path: Path) -> None:
    options = ("--data", data, "--out", tmp_path / "run", "--conv", "reference")
    status, _, errors = train(1, *options, *OPTIONS)
    assert status == 0, errors
    (first, *_, sha256), (first_alone, *_, sha256_alone) = outcome(tmp_path / "run"), outcome(alone)
    assert first == pytest.approx(first_alone, rel=1e-3)
    assert sha256 != sha256_alone


@each_set
@pytest.mark.parametrize("option", ["--conv", "--kernels"])
def test_a_run_goes_on_with_the_kernels_it_began_with(
    option: str, kernels: str, alone: Path
) -> None:
    status, _, errors = train(2, "--resume", "--out", alone, option, "reference")
    assert status == 2
    words = f"--kernels reference contradicts the checkpoint, trained with --kernels {kernels}"
    assert words in one_line(errors)
