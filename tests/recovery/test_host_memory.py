"""What a run has left in memory: it is removed once it is on disk, and not before."""

from pathlib import Path

import launcher
from launcher import train
from training import EPOCHS, INSIDE, SMALL, memory_of, outcome, struck


def test_what_is_kept_goes_only_when_it_is_on_disk(
    data: Path, tmp_path: Path, reference: Path
) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, *EPOCHS)
    assert struck(2, "1 4 forward kill", *run)[0] != 0
    # No room is left for as much again, and the disk is full, too.
    again = (INSIDE / "crowded_train.py", "full", "--resume", "--out", folder)
    status, output, errors = launcher.run(2, *again)
    assert status != 0
    assert "No space left on device" in output, errors
    assert "what was kept in memory stays there" in output
    assert memory_of(folder)
    again = (INSIDE / "crowded_train.py", "kill", "--resume", "--out", folder)
    status, _, errors = launcher.run(2, *again)
    assert status != 0
    assert not memory_of(folder)
    status, output, errors = train(1, "--resume", "--out", folder)
    assert status == 0, errors
    assert "resumed at step 4 of 6, epoch 2, from the checkpoint" in output
    assert outcome(folder) == outcome(reference)


def test_what_was_only_in_memory_is_on_disk_first(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, *EPOCHS, "--checkpoint-every", 100)
    assert struck(2, "1 3 forward kill", *run)[0] != 0
    # Nothing is kept any more, and a rank is killed at once.
    again = ("--resume", "--out", folder, "--standby", "off")
    assert struck(2, "1 3 forward kill", *again)[0] != 0
    assert [path.stem for path in (folder / "checkpoints").iterdir()] == ["step-00000003"]
    assert not memory_of(folder)
    status, output, errors = train(1, "--resume", "--out", folder)
    assert status == 0, errors
    assert "resumed at step 3 of 6, epoch 2, from the checkpoint" in output
