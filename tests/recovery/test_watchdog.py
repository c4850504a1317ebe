"""The watchdog: a rank or host without progress is named, and a slow one is left alone."""

from pathlib import Path

import launcher
import pytest
from launcher import one_line, train
from training import EPOCHS, INSIDE, SMALL, STALL, outcome, struck


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("victim", [0, -1])
def test_a_rank_without_progress_is_named(
    ranks: int, victim: int, data: Path, tmp_path: Path, reference: Path
) -> None:
    folder = tmp_path / "run"
    run = ("--data", data, "--out", folder, *SMALL, *EPOCHS, "--stall-timeout", STALL)
    fault = f"{victim % ranks} 4 forward {'stop' if ranks > 1 else 'hang'}"
    status, _, errors = struck(ranks, fault, *run)
    assert status == 71, errors
    what = "stopped" if ranks > 1 else "busy or hanging"
    line = one_line(errors)
    assert f"rank {victim % ranks} on " in line
    assert f"has made no progress for {STALL} s: {what}, in step 5 after: reading" in line
    status, output, errors = train(1, "--resume", "--out", folder)
    assert status == 0, errors
    assert "resumed at step 4 of 6, epoch 2, from memory" in output
    assert outcome(folder) == outcome(reference)


@pytest.mark.parametrize("victim", [0, 2])
def test_a_host_that_falls_silent_is_named(victim: int, data: Path, tmp_path: Path) -> None:
    run = ("--data", data, "--out", tmp_path / "run", *SMALL, "--stall-timeout", STALL)
    status, _, errors = launcher.run(
        3, INSIDE / "lonely_train.py", f"{victim} 1 forward stop", *run
    )
    assert status == 71, errors
    # Each of the other two hosts may come to say so.
    lines = [line for line in errors.splitlines() if "made no progress" in line]
    assert lines
    for line in lines:
        assert line.count("rank ") == 1
        assert f"rank {victim} on " in line
        assert "its host has gone silent" in line


def test_ranks_that_wait_for_each_other_are_all_named(data: Path, tmp_path: Path) -> None:
    run = ("--data", data, "--out", tmp_path / "run", *SMALL, "--stall-timeout", STALL)
    status, _, errors = struck(3, "1 1 reduce wait", *run)
    assert status == 71, errors
    assert one_line(errors).count("waiting for other ranks, in step 2") == 3


@pytest.mark.parametrize("fault", ["1 4 forward crawl", "0 4 forward creep"])
def test_a_slow_rank_or_disk_is_no_stall(
    fault: str, data: Path, tmp_path: Path, reference: Path
) -> None:
    run = ("--data", data, "--out", tmp_path / "run", *SMALL, *EPOCHS, "--stall-timeout", STALL)
    # Others wait for it for longer than that, but it makes progress.
    status, _, errors = struck(3, fault, *run)
    assert status == 0, errors
    assert outcome(tmp_path / "run") == outcome(reference)
