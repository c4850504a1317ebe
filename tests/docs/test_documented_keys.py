"""The page on a run's folder names every key that a run writes, and no other."""

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import launcher
import pytest
from preparing import held_out_beside
from training import SMALL, wait_for_step

from dist_vgg.runs.clock import SPANS
from dist_vgg.runs.log import RunLog

PAGE = (launcher.ROOT / "docs" / "reference" / "run-folder.md").read_text()


def documented(heading: str) -> set[str]:
    """The code in the first column of the tables under a heading."""
    part = PAGE.partition(f"\n{heading}\n")[2]
    assert part, f"no heading {heading}"
    level = heading.partition(" ")[0]
    part = re.split(rf"\n#{{1,{len(level)}}} ", part)[0]
    part = re.split(r"\n`seconds` has these keys", part)[0]
    first = (line.split("|")[1] for line in part.splitlines() if line.startswith("| `"))
    return {key for cell in first for key in re.findall(r"`([^`]+)`", cell)}


@pytest.fixture(scope="module")
def struck(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with scores, whose first rank was killed and which the supervisor has ended well."""
    folder = held_out_beside(data, tmp_path_factory.mktemp("documented") / "data")
    run = folder / "run"
    options = ["--data", folder, "--out", run, *SMALL, "--epochs", 20]
    scored = ["--validate", 4, "--ema", 0.9, "--patience", 1000]
    process = launcher.start(1, "-m", "dist_vgg.elastic", "-n", 2, "--", *options, *scored)
    wait_for_step(run, 4)
    os.kill(json.loads((run / "config.json").read_text())["pid"], signal.SIGKILL)
    status, output, errors = launcher.finish(process)
    assert status == 0, output + errors
    return run


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_file_is_documented(struck: Path) -> None:
    found = {path.name for path in struck.iterdir()}
    table = PAGE.partition("\n## ")[0]
    assert found == {name.partition("/")[0] for name in re.findall(r"^\| `([^`]+)`", table, re.M)}


def test_config(struck: Path) -> None:
    assert set(json.loads((struck / "config.json").read_text())) == documented("## config.json")


@pytest.mark.parametrize("kind", ["step", "ranks", "epoch", "score"])
def test_metrics(kind: str, struck: Path) -> None:
    found = [line for line in lines(struck / "metrics.jsonl") if line["kind"] == kind]
    assert {key for line in found for key in line} == documented(f"### kind `{kind}`")


def test_a_step_s_seconds(struck: Path) -> None:
    part = PAGE.partition("\n`seconds` has these keys")[2].partition("\n### ")[0]
    rows = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
    assert re.findall(r"`([^`]+)`", " ".join(rows)) == list(SPANS)
    steps = [line for line in lines(struck / "metrics.jsonl") if line["kind"] == "step"]
    assert set(steps[0]["seconds"]) == set(SPANS)


def test_the_end_of_a_run_that_was_stopped(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0, steps=4, epochs=1, progress="none")
    log.stopped(3, signal.SIGUSR1)
    log.close()
    (found,) = lines(tmp_path / "metrics.jsonl")
    assert set(found) == documented("### kind `stopped`")


def test_the_supervisor_s_log(struck: Path) -> None:
    found = lines(struck / "elastic.jsonl")
    assert {key for line in found for key in line} == documented("## elastic.jsonl")
    assert {line["event"] for line in found} == {"start", "ended", "exit"}
