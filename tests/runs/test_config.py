"""All options of training: checked, unchangeable, and described for the documentation."""

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from dist_vgg.base.errors import UserError
from dist_vgg.runs.config import TrainConfig
from dist_vgg.runs.fields import describe_options


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
        ("network", "vgg12", "--network vgg12: choose one of vgg11, vgg13, vgg16, vgg19$"),
        ("schedule", "", "--schedule : choose one of constant, step, cosine"),
        ("route", "ring", "--route ring: choose one of"),
        ("progress", "loud", "--progress loud: choose one of"),
        (
            "kernels",
            "fast",
            "--kernels fast: choose one of auto, compiled, numpy, reference$",
        ),
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


def test_a_hash_needs_the_file_that_has_it() -> None:
    TrainConfig(init="weights.h5", init_sha256="ab").check()
    with pytest.raises(UserError, match=r"^--init-sha256 goes with --init FILE$"):
        TrainConfig(init_sha256="ab").check()


def test_a_saved_configuration_is_a_configuration_again() -> None:
    config = TrainConfig(lr=0.5, nesterov=True, out="runs/a")
    assert TrainConfig(**config.as_dict()) == config


def test_result_options_are_all_but_files_and_display() -> None:
    left_out = set(TrainConfig().as_dict()) - set(TrainConfig().result_options())
    files = {"data", "out", "image_memory", "keep", "checkpoint_every", "checkpoint_minutes"}
    assert left_out == files | {"route", "progress", "standby", "audit", "stall_timeout"}
    assert TrainConfig(route="node").result_options() == TrainConfig().result_options()
    for other in (TrainConfig(lr=0.5), TrainConfig(conv="reference")):
        assert other.result_options() != TrainConfig().result_options()


def test_every_option_describes_itself() -> None:
    described = {option.name: option for option in describe_options(TrainConfig)}
    assert {name: option.default for name, option in described.items()} == TrainConfig().as_dict()
    assert all(option.help and option.group for option in described.values())
    assert described["micro_batch"].flag == "--micro-batch"
    assert described["micro_batch"].value_type is int
    allowed = {name: option.allowed for name, option in described.items()}
    assert allowed["optimizer"] == "one of sgd, adam, adagrad"
    assert allowed["width"] == "above 0 and at most 4"
    assert allowed["clip"] == "at least 0 and finite"
    assert allowed["data"] == allowed["nesterov"] == ""
    assert not described["route"].changes_result
