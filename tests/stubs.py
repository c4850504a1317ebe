"""Programs that only write down how they are called, for scripts that start others."""

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launcher import ROOT

from dist_vgg.recovery.options import split_options
from dist_vgg.runs.options import train_parser

LAUNCH = ROOT / "launch"
# What a stub prints or ends with is in the variable of its name, as in srun_status=138.
STUB = """#!/bin/bash
name=${0##*/}
(IFS=$'\\x1f'; printf '%s\\n' "$name"$'\\x1f'"$*") >>"$CALLS"
if [[ $name == python && ${saves_at_usr1:-} ]]; then
    trap 'exit 138' USR1
    trap 'exit 143' TERM
    for _ in {1..250}; do sleep 0.02; done  # no longer, should the signal not come
fi
said=${name}_says status=${name}_status
[[ $name != ssh ]] || status=ssh_status_${5:-}
printf '%s' "${!said:-}"
exit "${!status:-0}"
"""


class Stubs:
    """A folder of stubs, the first in PATH of what `start` starts."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.calls, self.bin = folder / "calls", folder / "venv" / "bin"
        self.bin.mkdir(parents=True)
        self.calls.touch()
        for name in names:
            (self.bin / name).write_text(STUB)
            (self.bin / name).chmod(0o755)
        (self.bin / "activate").write_text(f"PATH={self.bin}:$PATH\n")

    def start(self, script: Path, *words: str, **variables: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            ["bash", str(script), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.bin.parents[1],
            env={"PATH": f"{self.bin}:{os.defpath}", "CALLS": str(self.calls), **variables},
        )

    def run(self, script: Path, *words: str, **variables: str) -> tuple[int, str, str]:
        process = self.start(script, *words, **variables)
        out, errors = process.communicate(timeout=20)
        return process.returncode, out, errors

    def called(self, name: str) -> list[list[str]]:
        """The words of each call of this stub."""
        calls = [line.split("\x1f") for line in self.calls.read_text().splitlines()]
        return [words for stub, *words in calls if stub == name]


def understood(words: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """elastic's own options (None where train is started) and train's, by their real parsers.

    `words` are those of a Python command, from "-m" on.
    """
    assert words[0] == "-m"
    own, rest = None, list(words[2:])
    if words[1] == "dist_vgg.elastic":
        own, rest = split_options(rest)
    else:
        assert words[1] == "dist_vgg.train"
    return own, vars(train_parser().parse_args(rest))


def edits(text: str) -> list[str]:
    """The numbers of the lines at a file's head that say what to edit."""
    head = re.match(r"(#.*\n)+", text)
    return re.findall(r"^# (\d)\. ", head[0], re.MULTILINE) if head else []
