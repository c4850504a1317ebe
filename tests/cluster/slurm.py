"""A real Slurm on the pretended hosts: munged and slurmd on each, slurmctld on the first."""

import os
import re
import shutil
import time
from collections.abc import Callable

from hosts import PATIENCE, SYSTEM_PATH, Cluster

from dist_vgg.recovery.ending import last_step

NEEDS = "Slurm's tests need Debian's slurm-wlm and munge"
CONFIG = """
ClusterName=pretended
SlurmctldHost=node1
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation=/run/slurm/state
SlurmdSpoolDir=/run/slurm/%n
SlurmctldPidFile=/run/slurm/slurmctld.pid
SlurmdPidFile=/run/slurm/%n.pid
SlurmctldLogFile=/run/slurm/slurmctld.log
SlurmdLogFile=/run/slurm/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=30
NodeName=node[1-3] CPUs=2 CoresPerSocket=2 RealMemory=4000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=60 State=UP
"""
# slurmd wants cgroups though nothing here uses them; an empty folder and their first version do.
NODE = """
mount -t tmpfs tmpfs /sys/fs/cgroup
mount --bind /run/cluster/slurm /etc/slurm
mkdir -p /run/munge /run/slurm/state
mount -t tmpfs tmpfs /run/munge
munged --force --key-file=/run/cluster/munge.key --socket=/run/munge/munge.socket.2 \
    --pid-file=/run/munge/pid --log-file=/run/munge/log --seed-file=/run/munge/seed
[ "$(hostname)" != node1 ] || slurmctld
slurmd
"""


def why_not() -> str:
    """What this machine lacks for Slurm; empty if nothing."""
    programs = ("slurmctld", "slurmd", "sbatch", "munged")
    lacks = [name for name in programs if not shutil.which(name, path=SYSTEM_PATH)]
    return f"{NEEDS}; here is no {lacks[0]}" if lacks else ""


class Slurm:
    """Slurm on three hosts, for as long as they run."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.login = cluster, cluster.hosts[0]
        self.run = cluster.disk / "run"  # the folder of the run in a test
        folder = cluster.outside("/run/cluster")
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        (folder / "slurm").mkdir()
        (folder / "slurm" / "slurm.conf").write_text(CONFIG)
        (folder / "slurm" / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        for host in cluster.hosts:
            status, output, errors = host.run(f"({NODE}) </dev/null")
            assert status == 0, output + errors
        self.wait(lambda: self._ask("sinfo -h -o %T%D") == "idle3", "nodes")

    def _ask(self, command: str) -> str:
        return self.login.run(command)[1].strip()

    def submit(self, words: str, **variables: str) -> int:
        """Give sbatch these words; the number of the job."""
        status, output, errors = self.login.run(f"sbatch --parsable {words}", **variables)
        assert status == 0, errors
        return int(output)

    def command(self, command: str) -> None:
        """Run scontrol or scancel."""
        status, _, errors = self.login.run(command)
        assert status == 0, errors

    def fact(self, job: int, name: str) -> str:
        """What Slurm says of a job, such as its JobState."""
        found = re.search(rf"\b{name}=(\S+)", self._ask(f"scontrol -o show job {job}"))
        return found[1] if found else ""

    def log(self, job: int) -> str:
        """What the job has printed so far."""
        path = self.cluster.disk / f"dist_vgg-{job}.log"
        return path.read_text() if path.exists() else ""

    def wait_for_state(self, job: int, state: str, seconds: float = PATIENCE) -> None:
        """Wait until a job has this state."""
        self.wait(lambda: self.fact(job, "JobState") == state, f"{state} job", seconds, job)

    def wait_for_step(self, job: int, step: int) -> None:
        """Wait until a job's training has recorded so many steps."""
        self.wait(lambda: last_step(self.run) >= step, f"step {step}", PATIENCE, job)

    def wait(
        self, condition: Callable[[], bool], what: str, seconds: float = PATIENCE, job: int = 0
    ) -> None:
        """Wait until the condition holds; an error, with the job's log, if it never does."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                slurm = self._ask("tail -n 5 /run/slurm/*.log; squeue; ps -A -o pid,args")
                raise AssertionError(f"no {what} in {seconds} s:\n{self.log(job)}\n{slurm}")
            time.sleep(0.3)
