"""What trials do to files and disks."""

import shutil
from dataclasses import replace
from pathlib import Path

import launcher
import numpy as np
import pytest
from chaos_plans import plan_of

from dist_vgg.chaos.damage import flip_bit, harm_checkpoint, small_disk
from dist_vgg.chaos.faults import FLUSH
from dist_vgg.chaos.injector import FaultInjector
from dist_vgg.chaos.plan import NARROW
from dist_vgg.chaos.trial import train_options


@pytest.mark.parametrize("harm", ["cut", "flip"])
def test_harm_to_the_newest_checkpoint(harm: str, data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = train_options(replace(NARROW, epochs=1), data, run)
    status, _, errors = launcher.train(1, *options, "--checkpoint-every", 2)
    assert status == 0, errors
    before = {path: path.read_bytes() for path in run.glob("checkpoints/*")}
    harm_checkpoint(plan_of(f"checkpoint-{harm}"), run)
    after = {path: path.read_bytes() for path in run.glob("checkpoints/*")}
    (harmed,) = (path for path in before if before[path] != after[path])
    assert harmed.name == "step-00000003.h5"
    if harm == "cut":
        assert before[harmed].startswith(after[harmed])
    else:
        flips = [a ^ b for a, b in zip(before[harmed], after[harmed], strict=True) if a != b]
        assert [bits.bit_count() for bits in flips] == [1]
    status, output, errors = launcher.train(1, "--resume", "--out", run)
    assert status == 0, errors
    assert f"checkpoint {harmed} is damaged" in output


def test_flips_reach_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(20))
    for place in np.arange(20) / 20 + 0.01:
        flip_bit(path, place, 3)
    assert path.read_bytes() == bytes([8] * 20)


def test_a_small_disk_or_the_same_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = tmp_path / "undisturbed" / "run" / "checkpoints" / "step-00000003.h5"
    one.parent.mkdir(parents=True)
    one.write_bytes(bytes(100_000))
    plan, place = plan_of("disk-full"), tmp_path / "trial" / "run" / "checkpoints"
    with small_disk(plan, tmp_path / "trial", tmp_path / "data") as real:
        if real == plan:  # we may mount
            with pytest.raises(OSError, match="No space left"):
                (place / "file").write_bytes(bytes(100_000))
            (place / "file").unlink()
            FaultInjector(tmp_path / "trial", plan).free()
            for k in range(3):  # two that are kept, and one more
                (place / str(k)).write_bytes(bytes(100_000))
    assert not place.is_mount()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with small_disk(plan, tmp_path / "another", tmp_path / "data") as injected:
        assert (injected.action, injected.moment, injected.step) == ("refuse", FLUSH, 0)
    with pytest.raises(OSError, match="No space left"):
        FaultInjector(tmp_path, injected).refuse()
