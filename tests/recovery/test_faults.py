"""Training when bits flip or the disk is full: nothing wrong is saved, and it goes on after all."""

from pathlib import Path
from typing import Any

import pytest
from launcher import one_line, train
from training import EPOCHS, SMALL, outcome, struck

from dist_vgg.state.weights import load_weights


@pytest.mark.parametrize(
    ("ranks", "options", "fault", "named", "resumed"),
    [
        # After what is saved has been checked, and before it is on the disk.
        (3, (), "1 3 gather flip parameters", "parameters", "step 2 of 6, epoch 1, from memory"),
        (3, ("--route", "flat"), "2 3 gather flip momentum", "momentum", "step 2 of 6"),
        (1, (), "0 3 gather flip parameters", "parameters", "step 2 of 6"),
        (2, (), "0 6 weights flip parameters", "parameters", "step 6 of 6"),
    ],
)
def test_nothing_flipped_is_saved(
    ranks: int,
    options: tuple[Any, ...],
    fault: str,
    named: str,
    resumed: str,
    data: Path,
    tmp_path: Path,
    reference: Path,
) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, *EPOCHS, *options)
    status, _, errors = struck(ranks, fault, *run)
    assert status == 72, errors
    assert f"the {named} on rank 0 on " in one_line(errors)
    assert not (folder / "weights.h5").exists()
    left = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert left == ([] if "3 gather" in fault else ["step-00000003.h5", "step-00000006.h5"])
    status, output, errors = train(1, "--resume", "--out", folder)
    assert status == 0, errors
    assert f"resumed at {resumed}" in output
    assert outcome(folder) == outcome(reference)


@pytest.mark.parametrize("victim", [0, 2])
def test_a_replica_that_differs_is_named(
    victim: int, data: Path, tmp_path: Path, reference: Path
) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, *EPOCHS, "--route", "flat")
    status, _, errors = struck(3, f"{victim} 3 digest flip parameters", *run)
    assert status == 72, errors
    assert f"step 3: the parameters on rank {victim} on " in one_line(errors)
    assert "in bucket 0" in errors
    status, _, errors = train(1, "--resume", "--out", folder)
    assert status == 0, errors
    assert outcome(folder) == outcome(reference)


def test_what_flips_before_the_first_step_is_noticed(
    data: Path, tmp_path: Path, reference: Path
) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, *EPOCHS)
    assert struck(2, "1 4 forward kill", *run)[0] != 0
    flips = [(1, "auto", "momentum"), (2, "node", "parameters"), (3, "flat", "momentum"),
             (3, "flat", "parameters")]  # fmt: skip
    for ranks, route, vector in flips:
        again = ("--resume", "--out", folder, "--route", route)
        status, _, errors = struck(ranks, f"0 0 resume flip {vector}", *again)
        assert status == 72, errors
        assert f"the {vector} on rank 0 on " in one_line(errors)
        assert "before the first step" in errors
    status, output, errors = train(1, "--resume", "--out", folder)
    assert status == 0, errors
    assert "resumed at step 4 of 6, epoch 2, from memory" in output
    assert outcome(folder) == outcome(reference)


@pytest.mark.parametrize(
    ("what", "ranks"), [("pixels", 1), ("pixels", 3), ("labels", 3), ("ids", 1)]
)
def test_a_sample_that_flips_in_memory_is_noticed(
    what: str, ranks: int, data: Path, tmp_path: Path, reference: Path
) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, *EPOCHS)
    # In the last step of an epoch: its images have been read, and all are read again in the next.
    status, _, errors = struck(ranks, f"{ranks - 1} 2 step flip {what}", *run)
    assert status == 72, errors
    line = one_line(errors)
    assert f" of shard {0 if ranks == 1 else 6} on rank {ranks - 1} on " in line
    assert "changed in memory" in line
    status, output, errors = train(1, "--resume", "--out", folder)
    assert status == 0, errors
    assert "from memory" in output
    assert outcome(folder) == outcome(reference)


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_full_disk_is_no_reason_not_to_go_on(
    ranks: int, data: Path, tmp_path: Path, reference: Path
) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, *EPOCHS)
    assert struck(2, "1 4 forward kill", *run)[0] != 0
    again = ("--resume", "--out", folder, "--checkpoint-every", 1)
    status, output, errors = struck(ranks, "0 5 forward free", *again)
    assert status == 0, errors
    for name in ("config.json", "metrics.jsonl", "a checkpoint to"):
        assert any(name in line and "No space left" in line for line in output.splitlines())
    assert load_weights(folder).sha256 == load_weights(reference).sha256


def test_a_flipped_bit_that_makes_infinity_is_no_divergence(data: Path, tmp_path: Path) -> None:
    run = ("--data", data, "--out", tmp_path / "run", *SMALL, *EPOCHS)
    status, _, errors = struck(3, "1 4 forward infinity", *run)
    assert status == 72, errors
    assert "step 5: the parameters on rank 1 on " in one_line(errors)
    status, _, errors = train(1, "--resume", "--out", tmp_path / "run")
    assert status == 0, errors
