"""Training on several hosts: the weights are those of one process, by any MPI and route."""

import pytest
from hosts import ROOT, SHARED, Cluster
from launcher import field
from ranks import FOLDERS, TRAIN, python, variables

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize(
    ("machines", "route"),
    [("node1:1,node2:1", "node"), ("node1:2,node2:1", "node"), ("node1:1,node2:1,node3:1", "flat")],
)
def test_same_bits_by_mpirun(machines: str, route: str, cluster: Cluster, expected: str) -> None:
    ranks = sum(int(machine[-1]) for machine in machines.split(","))
    mpirun = python().replace("python", "mpirun")
    command = f"{mpirun} -host {machines} -n {ranks} {python()} -m dist_vgg.train {TRAIN}"
    status, output, errors = cluster.hosts[0].run(
        f"{command} --route {route} --out {SHARED}/{machines}", **variables()
    )
    assert status == 0, errors
    assert field(output, "parameters") == expected
    assert " on node1" in field(output, "ranks") and "node2" in field(output, "ranks")


@pytest.mark.parametrize("mpi", FOLDERS)
def test_same_bits_by_hosts_sh(mpi: str, cluster: Cluster, expected: str) -> None:
    (cluster.disk / "hosts").write_text("node1:1\nnode2:2\n")
    given = {"HOSTS": f"{SHARED}/hosts", "PYTHON": python(mpi), "OUT": f"{SHARED}/{mpi}"}
    status, output, errors = cluster.hosts[0].run(
        f"{ROOT}/launch/hosts.sh {TRAIN}", **variables(mpi), **given
    )
    assert status == 0, errors
    assert field(output, "parameters") == expected
    assert field(output, "ranks").startswith("3 on node1 (1), node2 (2), route node")
