"""What varies in a sweep: every combination, and options that go together."""

from collections.abc import Sequence

import pytest

from dist_vgg.base.errors import UserError
from dist_vgg.sweep.variants import Variant, as_options, combinations, label, parse_axes


def variants_of(given: Sequence[str]) -> list[Variant]:
    return combinations(parse_axes(given))


def test_all_combinations() -> None:
    found = variants_of(["optimizer=sgd,adam", "nesterov=true,false"])
    assert [label(v) for v in found] == [
        "optimizer sgd, nesterov true",
        "optimizer sgd, nesterov false",
        "optimizer adam, nesterov true",
        "optimizer adam, nesterov false",
    ]
    assert as_options(found[1]) == ["--optimizer", "sgd", "--no-nesterov"]
    assert variants_of([]) == [{}]
    assert variants_of(["data=a/b"]) == [{"data": "a/b"}]
    assert variants_of([" lr = 1, 2"]) == [{"lr": "1"}, {"lr": "2"}]
    for wrong in ("lr", "lr=", "=1", "lr=1,,2", "lr/=1", "lr/ema=1", "lr/ema=1/0,2", "lr/ema=1/"):
        with pytest.raises(UserError, match="give an option's name and values"):
            variants_of([wrong])
    for twice in (["lr=1", "lr=2"], ["lr/lr=1/2"], ["lr=1", "dropout/lr=0/1"]):
        with pytest.raises(UserError, match="lr varies twice"):
            variants_of(twice)


def test_options_that_go_together() -> None:
    found = variants_of(["optimizer/lr=sgd/0.01,adam/1e-4", "dropout=0,0.5"])
    assert [as_options(v) for v in found] == [
        ["--optimizer", "sgd", "--lr", "0.01", "--dropout", "0"],
        ["--optimizer", "sgd", "--lr", "0.01", "--dropout", "0.5"],
        ["--optimizer", "adam", "--lr", "1e-4", "--dropout", "0"],
        ["--optimizer", "adam", "--lr", "1e-4", "--dropout", "0.5"],
    ]
