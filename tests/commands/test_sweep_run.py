"""A run of a sweep: what its folder already holds, and whether that is this run."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from lies import say
from preparing import held_out_beside

from dist_vgg.base.errors import UserError
from dist_vgg.data.dataset import open_set
from dist_vgg.runs.config import TrainConfig
from dist_vgg.sweep.run import SweepRun


@pytest.mark.parametrize("beside", [False, True])
def test_what_has_been_evaluated_already(beside: bool, data: Path, tmp_path: Path) -> None:
    # Earlier versions prepared held-out images in a folder of their own, as its split "test".
    if beside:
        data = held_out = held_out_beside(data, tmp_path / "data")
    else:
        held_out = tmp_path / "held-out"
        shutil.copytree(data, held_out)
        for path in held_out.iterdir():
            say(path, request='{"held_out": 20}')
    digest = open_set(data).digest
    one = SweepRun({}, 0, tmp_path, data, held_out, [], TrainConfig())
    split = "held-out" if beside else "test"
    assert one.sets()["held out"] == (tmp_path / "held-out.json", held_out, split)

    def found(shifts: int, **different: object) -> bool:
        score = dict(weights="aa", dataset=digest, split="test", shifted=dict(shifts=2))
        on_held_out = {**score, "split": split, **different}
        (tmp_path / "score.json").write_text(json.dumps(score))
        (tmp_path / "held-out.json").write_text(json.dumps(on_held_out))
        return one.scores(shifts) is not None

    assert found(2)
    assert found(0)  # more than was asked for
    assert not found(1)
    assert not found(2, shifted={})
    assert found(0, shifted={})
    assert not found(2, weights="bb")
    assert not found(2, dataset="of other images")
    assert not found(2, split="train")
    assert found(2)
    (tmp_path / "held-out.json").unlink()
    assert one.scores(2) is None
    alone = replace(one, held_out=None)
    if beside:  # a sweep is for choosing
        assert alone.sets()["test"].split == "held-out"
        return
    assert alone.scores(2) is not None
    score = json.loads((tmp_path / "score.json").read_text())
    (tmp_path / "score.json").write_text(json.dumps({**score, "dataset": "of other images"}))
    assert alone.scores(2) is None


def test_a_folder_with_another_run_is_refused(data: Path, tmp_path: Path) -> None:
    info = open_set(data)
    one = SweepRun({}, 0, tmp_path, data, None, [], TrainConfig())
    dataset = dict(sha256=info.digest, shards=info.shards, request=info.request)

    def check(config: TrainConfig, one: SweepRun = one, **dataset: object) -> None:
        content = dict(config=config.as_dict(), dataset=dataset)
        (tmp_path / "config.json").write_text(json.dumps(content))
        one.check_folder(info)

    # What has left no step may begin anew, with other options.
    check(TrainConfig(lr=0.5), **dataset)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-00000001.h5").touch()
    check(TrainConfig(), **dataset)
    check(TrainConfig(kernels="reference"), **dataset)  # "auto" means those that the run has
    with pytest.raises(UserError, match="was trained with kernels reference, not numpy"):
        chosen = replace(one, config=TrainConfig(kernels="numpy"))
        check(TrainConfig(kernels="reference"), chosen, **dataset)
    with pytest.raises(UserError, match=r"was trained with lr 0.5, not 0.01; choose another --out"):
        check(TrainConfig(lr=0.5), **dataset)
    for name, other in (("sha256", "0" * 64), ("shards", 9), ("request", "of another seed")):
        with pytest.raises(UserError, match=r"another data set, or other shards of it, than"):
            check(TrainConfig(), **{**dataset, name: other})
    with pytest.raises(UserError, match="is damaged"):
        check(TrainConfig())
    # A score stays what it is where the weights have been removed.
    (tmp_path / "checkpoints" / "step-00000001.h5").unlink()
    check(TrainConfig(lr=0.5), **dataset)
    (tmp_path / "score.json").touch()
    with pytest.raises(UserError, match=r"was trained with lr 0.5"):
        check(TrainConfig(lr=0.5), **dataset)
