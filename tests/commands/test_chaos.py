"""The command: trials that fail can be repeated, mistakes are one line, and all kinds survive."""

import json
import re
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import launcher
import pytest
from launcher import one_line

from dist_vgg.base.command_line import guarded
from dist_vgg.chaos import __main__ as chaos
from dist_vgg.chaos import processes
from dist_vgg.chaos.faults import FAULTS
from dist_vgg.chaos.faults import KINDS as ALL
from dist_vgg.chaos.outcome import remove_memory
from dist_vgg.chaos.plan import NARROW, choose_kinds

KINDS = list(FAULTS)
SHA256 = "ab" * 32


def run_chaos(argv: Sequence[str], *supervisor: Sequence[str]) -> int:
    """Run the command in this process; its exit status."""
    return guarded("dist_vgg.chaos", lambda: chaos.main(argv, *supervisor))


# The whole, with a supervisor that is a stand-in


@pytest.mark.parametrize("how", ["gives up", "hangs", "leaves a process"])
def test_a_failure_can_be_repeated(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = {"gives up": "exit 5", "hangs": "sleep 60", "leaves a process": "sleep 60 & exit 0"}
    words = {"gives up": "status 5 instead of 0", "hangs": "it hung",
             "leaves a process": "processes were left"}  # fmt: skip
    monkeypatch.setattr(processes, "GRACE", 0.2)
    monkeypatch.setattr(chaos, "undisturbed", lambda *rest: SHA256)
    monkeypatch.setattr(chaos, "NARROW", replace(NARROW, limit=0.5))
    options = ["--kinds", "slow,sigint", "--seed", "3", "--max-ranks", "4"]
    work = tmp_path / "work"
    status = run_chaos([*options, "--work", str(work)], ["sh", "-c", script[how], "sh"])
    output = capsys.readouterr().out
    assert status == 1
    assert words[how] in output
    again = "python -m dist_vgg.chaos --trials 1 --first 1 --seed 3 --kinds slow,sigint"
    assert f"again   {again} --max-ranks 4 --keep" in output
    assert f"output  {work / 'trial-00001' / 'output.txt'}" in output
    assert not processes.processes(work / "trial-00001")


@pytest.mark.parametrize(
    ("kind", "seconds"),
    [("stop", "2"), ("slow", "2"), ("kill-update", "300"), ("flip-params", "300")],
)
def test_only_silence_has_a_short_limit(
    kind: str, seconds: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a short one for all, a crowded machine would be taken for a rank that hangs."""
    monkeypatch.setattr(chaos, "undisturbed", lambda *rest: SHA256)
    script = f"echo $* > {tmp_path}/words; exit 5"
    run_chaos(["--kinds", kind, "--work", str(tmp_path / "work")], ["sh", "-c", script, "sh"])
    words = (tmp_path / "words").read_text().split()
    assert words[words.index("--stall-timeout") + 1] == seconds


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nobody = tmp_path / "hosts"
    nobody.write_text("# none yet\n")
    (somebody := tmp_path / "two").write_text("n1\nn2\n")
    cases: list[tuple[list[Any], str]] = [
        (["--trials", 0], "--trials 0 is out of range"),
        (["--max-ranks", 9], "--max-ranks 9 is out of range: 1 to 8"),
        (["--kinds", "flop"], "the kinds are"),
        (["--work", tmp_path], f"--work {tmp_path} is not empty"),
        (["--trails", 3], "did you mean --trials?"),
        (["--hostfile", nobody], "--hostfile needs --work DIR"),
        (["--hostfile", nobody, "--work", tmp_path / "w"], f"--hostfile {nobody} names no host"),
        (["--hostfile", somebody, "--kinds", "kill-two", "--work", tmp_path / "w"], "kill-two is"),
        (["--kinds", "host-off"], "strike hosts need --hostfile, and --breaker"),
        (
            ["--hostfile", somebody, "--breaker", "no-program x", "--work", tmp_path / "w"],
            "--breaker no-program x: there is no such program",
        ),
        (["--breaker", "x"], "strike hosts need --hostfile, and --breaker"),
        (["--hostfile", tmp_path / "no", "--work", tmp_path / "w"], "No such file"),
    ]
    for options, words in cases:
        assert run_chaos(list(map(str, options))) == 2
        assert words in one_line(capsys.readouterr().err)


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_chaos(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(ALL)


def test_sigterm_ends_what_was_started(tmp_path: Path) -> None:
    options = ["--kinds", "slow", "--work", str(tmp_path / "work")]
    code = "import sys; from dist_vgg.chaos.__main__ import main; "
    process = launcher.start(1, "-c", f"{code}sys.exit(main({options}))")
    folder = tmp_path / "work" / "trial-00000"
    while not (folder / "struck").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    status, _, errors = launcher.finish(process)
    assert status == 128 + signal.SIGTERM, errors
    assert not processes.processes(folder)
    assert not remove_memory(folder)


# The whole


PARTS = (  # which can run side by side
    "kill-start-up,kill-first-step,kill-arrive,kill-forward,kill-backward,kill-exchange",
    "kill-reduced,kill-update,kill-share,kill-gather,kill-write,kill-written",
    "kill-renamed,kill-two,kill-supervisor,sigterm,sigint,sigusr1",
    "stop,slow",
    "disk-full,io-error,read-only,checkpoint",
    "flip",
)


def test_no_kind_is_left_out() -> None:
    assert sorted(choose_kinds(",".join(PARTS))) == sorted(KINDS)


@pytest.mark.parametrize("part", PARTS)
def test_one_trial_of_each_kind(part: str, tmp_path: Path) -> None:
    kinds = choose_kinds(part)
    survivors = sum(FAULTS[kind].survives for kind in kinds)
    options = ("--seed", 1, "--kinds", part, "--max-ranks", 3, "--work", tmp_path / "work")
    process = launcher.start(1, "-m", "dist_vgg.chaos", *options, "--json", tmp_path / "seen.json")
    status, output, errors = launcher.finish(process, timeout=300)
    assert status == 0, output + errors
    stopped = "–" if survivors == len(kinds) else "1 of 1"
    last = rf"^all +{len(kinds)} +{survivors} of {survivors} +{stopped} "
    assert re.search(last, output, re.MULTILINE), output
    seen = json.loads((tmp_path / "seen.json").read_text())["trials"]
    assert sorted(trial["kind"] for trial in seen) == sorted(kinds)
    assert not (tmp_path / "work").exists()
