"""The start of ranks on the hosts of a file or of Slurm, once these have answered."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from dist_vgg.base.command_line import tell
from dist_vgg.base.errors import KILLED_BY, UserError
from dist_vgg.doctor.findings import FAULT, Finding
from dist_vgg.doctor.network import resolve
from dist_vgg.mpi.mpirun import find_mpirun
from dist_vgg.recovery.hosts import Hosts

CHECK = "hosts"
PROBE_SECONDS = 20  # that a host has to answer
GRACE = 5  # seconds that mpirun has to end its ranks
# Runs on each host: is there this Python, and does it find what ranks import?
PROBE = "import dist_vgg.training.trainer, mpi4py.MPI"


def start(options: argparse.Namespace, argv: Sequence[str]) -> int:
    """Start the doctor on all hosts; returns the exit status.

    Hosts that don't answer are faults, and then nothing else is looked at.
    """
    if options.n is not None and options.n < 1:
        raise UserError(f"-n {options.n}: start at least 1 rank")
    mpirun = find_mpirun(options.mpirun)
    hosts = Hosts(options.hostfile, options.n or 1)
    ranks = options.n or max(1, sum(hosts.slots))
    findings = silent_hosts(mpirun, hosts.names)
    for finding in findings:
        print(finding, flush=True)
    if findings:
        return UserError.status
    command = [*mpirun, *hosts.options, "-n", str(ranks)]
    return _run([*command, sys.executable, "-m", "dist_vgg.doctor", *argv])


def silent_hosts(mpirun: Sequence[str], names: Sequence[str]) -> list[Finding]:
    """A fault for each host that has no address, can't be reached, or lacks the program."""
    findings, probes = [], {}
    for name in dict.fromkeys(names):
        if not resolve(name):
            findings.append(Finding(
                FAULT, CHECK, f"nobody knows the name {name}",
                "correct it in the hostfile, or put it into /etc/hosts",
            ))  # fmt: skip
            continue
        errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        command = [*mpirun, "-n", "1", "-host", name, sys.executable, "-c", PROBE]
        probes[name] = errors, subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
            start_new_session=True,
        )  # fmt: skip
    end = time.monotonic() + PROBE_SECONDS
    for name, (errors, probe) in probes.items():
        with errors:
            findings += _judge(name, probe, errors, max(0.0, end - time.monotonic()))
    return findings


def _judge(
    name: str, probe: "subprocess.Popen[bytes]", errors: IO[str], seconds: float
) -> list[Finding]:
    """What a probe has come to."""
    mend = f"see whether `ssh {name} 'cd {Path.cwd()}'` works without a password"
    try:
        if not probe.wait(seconds):
            return []
    except subprocess.TimeoutExpired:
        os.killpg(probe.pid, 9)
        probe.wait()
        return [Finding(FAULT, CHECK, f"{name} doesn't answer in {PROBE_SECONDS} s", mend)]
    errors.seek(0)
    said = errors.read()
    last = next((line for line in reversed(said.splitlines()) if "Error" in line), "")
    if "ModuleNotFoundError" in said or "ImportError" in said:
        return [Finding(
            FAULT, CHECK, f"{name} lacks what ranks import ({last.strip()})",
            f"install the same environment there, in {Path(sys.prefix)}",
        )]  # fmt: skip
    if "No such file" in said or "could not be found" in said or "unable to find" in said:
        return [Finding(
            FAULT, CHECK, f"{name} has no {sys.executable}",
            "install the environment at the same path on every host",
        )]  # fmt: skip
    return [Finding(FAULT, CHECK, f"mpirun can't start a rank on {name}", mend)]


def _run(command: Sequence[str]) -> int:
    """Run mpirun to its end, whatever ends us; returns the status."""
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise UserError(f"can't start {command[0]}: {error.strerror}") from error
    try:
        status = process.wait()
    except KeyboardInterrupt:
        try:  # the terminal's Ctrl-C has reached mpirun as well
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
        raise
    if status not in (0, UserError.status):
        tell(f"dist_vgg.doctor: error: mpirun ended with status {status}; see what it says above")
    return status if status >= 0 else KILLED_BY - status
