"""The Slurm files of launch/ under a real Slurm: stopped, requeued, resumed, with a node lost."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import slurm as parts
from hosts import ROOT, SHARED, Cluster
from hosts import why_not as why_no_hosts
from launcher import field
from ranks import TRAIN, python, variables
from slurm import Slurm

pytestmark = [pytest.mark.cluster, pytest.mark.long]
OPTIONS = TRAIN.partition("/data ")[2]  # the scripts name the data themselves


@pytest.fixture
def slurm(data: Path) -> Iterator[Slurm]:
    if why := why_no_hosts() or parts.why_not():
        pytest.skip(why)
    with Cluster(3) as cluster:
        shutil.copytree(data, cluster.disk / "data")
        yield Slurm(cluster)


def environment(**more: str) -> dict[str, str]:
    """That of sbatch, which hands it on to the job."""
    given = {"VENV": sys.prefix, "DATA": f"{SHARED}/data", "OUT": f"{SHARED}/run"}
    return {**variables(), **given, **more}


@pytest.mark.parametrize(
    ("script", "ranks", "signal", "more"),
    [
        ("slurm.sbatch", "--ntasks-per-node=2", "scancel --batch -s USR1", {"STAGE": "yes"}),
        ("slurm-srun.sbatch", "--ntasks-per-node=1", "scancel -s USR1", {}),
    ],
)
def test_stopped_requeued_and_resumed(
    script: str, ranks: str, signal: str, more: dict[str, str], slurm: Slurm, expected: str
) -> None:
    # Slurm's nodes have two cores each, but the machine has no six to bind ranks to.
    given = environment(MPIRUN="mpirun", **more)
    job = slurm.submit(f"{ranks} --time=10 {ROOT}/launch/{script} {OPTIONS}", **given)
    slurm.wait_for_step(job, 4)
    slurm.command(f"{signal} {job}")
    slurm.wait_for_state(job, "PENDING")
    assert slurm.fact(job, "Restarts") == "1"
    assert "weights  " not in slurm.log(job)
    slurm.wait_for_state(job, "COMPLETED", 360)  # Slurm leaves it alone for the first two minutes
    log = slurm.log(job)
    assert "resumed at step" in log
    assert field(log, "parameters") == expected
    assert "node3" in field(log, "ranks")
    for host in slurm.cluster.hosts:
        assert f"dist_vgg-{job}" not in host.run("ls /tmp")[1]


def test_goes_on_without_a_lost_node(slurm: Slurm, expected: str) -> None:
    script = f"{ROOT}/launch/slurm.sbatch"
    job = slurm.submit(
        f"--ntasks-per-node=1 --time=10 {script} {OPTIONS}", **environment(MPIRUN="mpirun")
    )
    slurm.wait_for_step(job, 4)
    slurm.cluster.hosts[2].kill()
    slurm.wait(lambda: "\nparameters  " in slurm.log(job), "end", job=job)
    log = slurm.log(job)
    assert "no answer from node3" in log
    assert field(log, "ranks").startswith("2 on node1 (1), node2 (1)")
    assert field(log, "parameters") == expected


def test_the_doctor_under_srun(slurm: Slurm) -> None:
    doctor = f"{python()} -m dist_vgg.doctor --width 0.02 --micro-batch 2 --data {SHARED}/data"
    status, output, errors = slurm.login.run(
        f"srun --mpi=pmi2 --nodes=3 --ntasks=3 {doctor} --out {SHARED}/run", **variables()
    )
    assert status == 0, output + errors
    assert "3 ranks, as srun has started" in output
    assert "3 hosts know each other's names" in output
    assert "the same 8 shards everywhere" in output
    assert "all hosts see it, and locks work" in output
    assert "0 faults, " in output
