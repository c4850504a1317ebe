"""Whether a run can go on here: with the kernels that it began with, and no others."""

from typing import Any

import pytest
from sets import fake_compiled, without_numba

from dist_vgg.base.errors import UserError
from dist_vgg.kernels import numpy_set
from dist_vgg.runs.compatibility import check_kernels, stored_options
from dist_vgg.runs.config import TrainConfig


@pytest.mark.parametrize(
    ("stored", "given", "kernels"),
    [
        ({}, {}, "auto"),
        ({}, {"kernels": "reference"}, "reference"),
        ({}, {"conv": "reference"}, "reference"),
        ({"lr": 0.1}, {}, "numpy"),  # of a version that knew no --kernels
        ({"conv": "fast"}, {}, "numpy"),
        ({"conv": "reference"}, {}, "reference"),
        ({"kernels": "compiled", "conv": "fast"}, {}, "compiled"),
        ({"kernels": "numpy"}, {"kernels": "auto"}, "numpy"),
        ({"conv": "reference"}, {"kernels": "auto"}, "reference"),
        ({"kernels": "reference"}, {"conv": "fast"}, "reference"),
        ({"kernels": "numpy"}, {"conv": "reference"}, "reference"),  # check_resumed refuses it
        ({"conv": "reference"}, {"kernels": "numpy"}, "numpy"),
    ],
)
def test_the_kernels_of_a_run(stored: dict[str, Any], given: dict[str, Any], kernels: str) -> None:
    config = stored_options(stored, **given)
    assert (config.kernels, config.conv) == (kernels, "fast")
    assert stored_options(config.as_dict()) == config


def test_what_a_run_started_from_is_its_own() -> None:
    found = {"init": "a.h5", "init_sha256": "ab"}
    assert stored_options({}, init="a.h5").init_sha256 == ""
    for given in ({}, {"init": "a.h5"}, {"init": "a.h5", "init_sha256": ""}):
        config = stored_options(found, **given)
        assert (config.init, config.init_sha256) == ("a.h5", "ab")
    assert stored_options(found, init_sha256="cd").init_sha256 == "cd"  # check_resumed refuses it
    assert (stored_options({"lr": 0.1}).network, stored_options({"lr": 0.1}).init) == ("vgg16", "")


def test_options_that_contradict_each_other() -> None:
    words = "^--conv reference contradicts --kernels numpy: leave one of them out$"
    both: dict[str, Any] = {"conv": "reference", "kernels": "numpy"}
    with pytest.raises(UserError, match=words):
        stored_options({}, **both)
    with pytest.raises(UserError, match=words):
        TrainConfig(**both).settled()


def test_settled_options_name_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    without_numba(monkeypatch)
    assert TrainConfig(lr=0.5).settled() == TrainConfig(lr=0.5, kernels="numpy")
    fake_compiled(monkeypatch)
    settled = TrainConfig().settled()
    assert settled.kernels == "compiled"
    assert settled.settled() == settled
    assert TrainConfig(kernels="numpy").settled().kernels == "numpy"
    for kernels in ("auto", "reference"):
        settled = TrainConfig(conv="reference", kernels=kernels).settled()
        assert settled == TrainConfig(kernels="reference")


def test_kernels_of_another_version_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_kernels({}, 1)  # of a run that named neither
    monkeypatch.setattr(numpy_set, "VERSION", 3)
    check_kernels({"kernels": "numpy"}, 3)
    with pytest.raises(UserError) as found:
        check_kernels({"kernels": "numpy"}, 1)
    assert str(found.value).startswith(
        "the run began with version 1 of the kernels numpy, and this dist_vgg has version 3"
    )


def test_kernels_that_are_missing_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    without_numba(monkeypatch)
    with pytest.raises(UserError, match=r"pip install 'dist_vgg\[fast\]'"):
        check_kernels({"kernels": "compiled"}, 1)
