"""The hosts of a run: which there are, how many ranks each takes, and which still answer."""

import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from dist_vgg.base.errors import UserError
from dist_vgg.recovery.job import Job, wait_until

PROBE_SECONDS = 10  # that a host has to answer
FIRST_SECONDS = 60  # before a run: its disks have yet to read Python
PROBE = (sys.executable, "-c", "import dist_vgg")
# A line of a hostfile: "host", or "host:4" for MPICH, or "host slots=4" for Open MPI.
HOST = re.compile(r"([^\s:]+)(?::(\d+)|.*?\sslots\s*=\s*(\d+))?")


class Hosts:
    """The machines of --hostfile or of the Slurm job; none where mpirun is told of none."""

    def __init__(self, hostfile: str | None, ranks: int) -> None:
        lines = [line.partition("#")[0].strip() for line in _read_lines(hostfile)]
        if hostfile and not any(lines):
            raise UserError(f"--hostfile {hostfile} names no host")
        self.options = ["-hostfile", hostfile] if hostfile else []  # of mpirun
        hosts = [match for match in (HOST.match(line) for line in lines if line) if match]
        share = math.ceil(ranks / max(1, len(hosts)))
        self.names = [match[1] for match in hosts]
        self.slots = [int(match[2] or match[3] or share) for match in hosts]
        if 0 < sum(self.slots) < ranks:  # mpirun, if it takes that, goes round again
            rounds = math.ceil(ranks / sum(self.slots))
            self.slots = [rounds * count for count in self.slots]

    def find_silent(
        self,
        mpirun: Sequence[str],
        job: Job,
        interrupted: Callable[[], bool],
        seconds: float = PROBE_SECONDS,
    ) -> list[str]:
        """The hosts on which mpirun can't start our Python; asks all at once, until interrupted."""
        quiet: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        probes = {
            name: subprocess.Popen(
                [*mpirun, "-n", "1", "-host", name, *PROBE], **quiet, env=job.environ
            )
            for name in dict.fromkeys(self.names)
        }

        def answered() -> bool:
            return all(probe.poll() is not None for probe in probes.values())

        wait_until(lambda: interrupted() or answered(), seconds)
        for probe in probes.values():
            probe.kill()
        silent = [name for name, probe in probes.items() if probe.wait()]
        job.kill_remaining()
        return silent

    def slots_without(self, silent: Collection[str]) -> list[int]:
        """The slots of each host, 0 for the silent ones."""
        slots = zip(self.names, self.slots, strict=True)
        return [0 if name in silent else count for name, count in slots]

    def use(self, slots: Sequence[int], ranks: int) -> None:
        """Have mpirun place the ranks in these slots as `spread_ranks` does."""
        counts = zip(self.names, spread_ranks(slots, ranks), strict=True)
        # Under Slurm, of all ways to say it, this is the one that both MPIs follow.
        self.options = ["-host", ",".join(f"{name}:{count}" for name, count in counts if count)]


def _read_lines(hostfile: str | None) -> list[str]:
    """A line for each host, or comments; none where neither a file nor Slurm names hosts."""
    try:
        if hostfile:
            return Path(hostfile).read_text().splitlines()
        if int(os.environ.get("SLURM_JOB_NUM_NODES", 1)) > 1:
            command = ["scontrol", "show", "hostnames", os.environ["SLURM_JOB_NODELIST"]]
            return subprocess.check_output(command, text=True).splitlines()
    except (OSError, ValueError, KeyError, subprocess.CalledProcessError) as error:
        raise UserError(f"can't read the hosts: {error}; see --hostfile") from error
    return []


def spread_ranks(slots: Sequence[int], ranks: int) -> list[int]:
    """The number of ranks for each host, on as many hosts as possible.

    Each host holds a part of the state, so the more of them take part the less is lost with one.
    """
    counts = list(slots)
    for _ in range(sum(slots) - ranks):
        fullest = max(range(len(counts)), key=lambda host: (counts[host], host))
        counts[fullest] -= 1
    return counts
