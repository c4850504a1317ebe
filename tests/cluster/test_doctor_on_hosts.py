"""The doctor on pretended hosts: nothing on sound ones, and each fault as it is set up.

Beside these, tests/doctor has facts that are made up, and what one machine can show.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hosts import ROOT, SHARED, Cluster, Host
from lies import say
from ranks import FOLDERS, python, variables

pytestmark = [pytest.mark.cluster, pytest.mark.long]
CPU = Path("/sys/fs/cgroup/cpu")  # cgroups' first version
# What hosts that share two cores may hear of, whatever else is wrong.
OF_THIS_MACHINE = ("cores", "speed", "step")
Line = tuple[str, str, str]  # level, check, and what is found


def examined(
    cluster: Cluster,
    machines: str = "node1:1,node2:1",
    options: str = "",
    mpi: str = "mpich",
    mpirun: str = "",
    prefix: str = "",
    width: float = 0.02,
) -> tuple[int, list[Line]]:
    """The doctor's status and findings on these machines, each rank under what `prefix` starts."""
    ranks = sum(int(machine[-1]) for machine in machines.split(","))
    mpirun = mpirun or python(mpi).replace("python", "mpirun")
    if mpi == "openmpi":
        mpirun += " -x PYTHONPATH -x OPENBLAS_NUM_THREADS"
    doctor = f"{python(mpi)} -m dist_vgg.doctor --width {width} --micro-batch 2 {options}"
    path = f"{FOLDERS[mpi] / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin"
    status, output, errors = cluster.hosts[0].run(
        f"{mpirun} -host {machines} -n {ranks} {prefix} {doctor}", **variables(mpi), PATH=path
    )
    found = findings(output)
    assert found, output + errors
    return status, found


def findings(output: str) -> list[Line]:
    lines = [line.split(maxsplit=2) for line in output.splitlines()]
    return [(w[0], w[1], w[2]) for w in lines if w and w[0] in ("ok", "warning", "fault")]


def wrong(found: list[Line]) -> list[Line]:
    """What is not as on sound hosts that have cores enough."""
    return [line for line in found if line[0] != "ok" and line[1] not in OF_THIS_MACHINE]


SOUND = f"--data {SHARED}/data --out {SHARED}/sound"


@pytest.mark.parametrize("mpi", FOLDERS)
def test_nothing_is_wrong_with_sound_hosts(mpi: str, cluster: Cluster) -> None:
    status, found = examined(cluster, "node1:2,node2:1,node3:1", SOUND, mpi)
    assert not wrong(found)
    assert (status, len({check for _, check, _ in found})) == (0, 11)
    assert not (cluster.disk / "sound").exists()


def test_it_starts_ranks_on_the_hosts_of_a_file(cluster: Cluster) -> None:
    (cluster.disk / "hosts").write_text("node1:1\nnode2:1\nnode3:1\n")
    status, output, errors = by_hostfile(cluster)
    assert not wrong(findings(output)), output + errors
    assert status == 0
    assert "3 ranks, as mpirun has started" in output
    assert [line.split()[:2] for line in output.splitlines()[1:4]] == [
        ["node1", "1"], ["node2", "1"], ["node3", "1"],
    ]  # fmt: skip


def by_hostfile(cluster: Cluster) -> tuple[int, str, str]:
    own = f"--hostfile {SHARED}/hosts --width 0.02 --micro-batch 2 {SOUND}"
    path = f"{FOLDERS['mpich'] / 'bin'}:/usr/bin:/bin"
    return cluster.hosts[0].run(f"{python()} -m dist_vgg.doctor {own}", **variables(), PATH=path)


def test_a_host_that_does_not_exist(cluster: Cluster) -> None:
    (cluster.disk / "hosts").write_text("node1:1\nnode9:1\n")
    status, output, _ = by_hostfile(cluster)
    assert status == 2
    assert findings(output)[0][:2] == ("fault", "hosts")
    assert "nobody knows the name node9" in output


def test_a_host_without_the_environment(cluster: Cluster) -> None:
    (cluster.disk / "hosts").write_text("node1:1\nnode2:1\n")
    with cluster.hosts[1].replaced(sys.prefix):
        status, output, _ = by_hostfile(cluster)
    assert status == 2
    ((level, check, words),) = findings(output)
    assert (level, check) == ("fault", "hosts")
    assert words.startswith("node2 ") or " on node2" in words


@contextmanager
def other_version(cluster: Cluster) -> Iterator[None]:
    host, path = cluster.hosts[1], f"{ROOT}/dist_vgg/elastic.py"
    host.run(f"(cat {path}; echo '# changed') >/tmp/changed.py")
    with host.replaced(path, "/tmp/changed.py"):
        yield


@contextmanager
def folder_on_one_host(cluster: Cluster) -> Iterator[None]:
    host = cluster.hosts[0]
    host.run(f"cp -r {SHARED}/data /tmp/mine")
    yield
    host.run("rm -r /tmp/mine")


@contextmanager
def other_data(cluster: Cluster) -> Iterator[None]:
    host, other = cluster.hosts[1], cluster.disk / "changed"
    host.run(f"cp -r {SHARED}/data {SHARED}/changed")
    for path in other.iterdir():
        say(path, digest="0" * 64)
    with host.replaced(f"{SHARED}/data", f"{SHARED}/changed"):
        yield
    host.run(f"rm -r {SHARED}/changed")


@contextmanager
def unknown_name(cluster: Cluster) -> Iterator[None]:
    host = cluster.hosts[1]
    host.run("grep -v node3 /etc/hosts >/tmp/hosts")
    with host.replaced("/etc/hosts", "/tmp/hosts"):
        yield


@contextmanager
def small_shared_memory(cluster: Cluster) -> Iterator[None]:
    host = cluster.hosts[1]
    host.run("mount -o remount,size=8m /dev/shm")
    yield
    host.run("mount -o remount,size=1g /dev/shm")


@contextmanager
def full_disk(cluster: Cluster) -> Iterator[None]:
    host = cluster.hosts[0]
    host.run("mkdir -p /tmp/full && mount -t tmpfs -o size=100k tmpfs /tmp/full")
    yield
    host.run("umount --lazy /tmp/full")


@contextmanager
def slow_link(cluster: Cluster) -> Iterator[None]:
    cluster.hosts[1].rate("10mbit")
    yield


@contextmanager
def other_clock(cluster: Cluster) -> Iterator[None]:
    """Python itself is late on node2: namespaces have no date, and with faketime no rank sleeps."""
    host = cluster.hosts[1]
    host.run(
        "mkdir -p /tmp/clock && printf 'import time\\nnow = time.time\\n"
        "time.time = lambda: now() - 90\\n' >/tmp/clock/sitecustomize.py"
    )
    yield


@dataclass(frozen=True)
class Fault:
    """How a fault is set up, what must be found then, and the options and machines that show it."""

    set_up: Callable[[Cluster], AbstractContextManager[None]]
    line: Line  # the words are those that it begins with
    options: str = ""
    machines: str = "node1:1,node2:1"
    width: float = 0.02
    prefix: str = ""


FAULTS = {
    "other version": Fault(
        other_version, ("fault", "program", "ranks differ in the version of dist_vgg: ")
    ),
    "data on one host": Fault(
        folder_on_one_host, ("fault", "data", "rank 1 on node2: "), "--data /tmp/mine"
    ),
    "other data": Fault(
        other_data, ("fault", "data", "ranks differ in "), f"--data {SHARED}/data"
    ),
    "folder not shared": Fault(
        folder_on_one_host, ("warning", "out", "node2 can't see what rank 0 writes to --out"),
        "--out /tmp/mine",
    ),
    "full disk": Fault(full_disk, ("fault", "out", "node1 (rank 0): "), "--out /tmp/full/run"),
    "unknown name": Fault(
        unknown_name, ("warning", "network", "node2 can't resolve the name node3"),
        machines="node1:1,node2:1,node3:1",
    ),
    "small /dev/shm": Fault(
        small_shared_memory, ("warning", "memory", "standby none: /dev/shm has "), width=0.2
    ),
    "slow link": Fault(
        slow_link, ("warning", "exchange", "sums have the tree's bits, route flat; ")
    ),
    "other clock": Fault(
        other_clock, ("warning", "clocks", "node2 is 90 s behind node1"),
        prefix="env PYTHONPATH=/tmp/clock:$PYTHONPATH",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(name: str, cluster: Cluster) -> None:
    fault = FAULTS[name]
    with fault.set_up(cluster):
        status, found = examined(
            cluster, fault.machines, fault.options, prefix=fault.prefix, width=fault.width
        )
    (line,) = wrong(found)
    assert line[:2] == fault.line[:2]
    assert line[2].startswith(fault.line[2])
    assert status == (2 if line[0] == "fault" else 0)


def test_the_mpirun_of_another_mpi(cluster: Cluster) -> None:
    mpirun = f"{FOLDERS['openmpi']}/bin/mpirun -x PYTHONPATH"
    root = {name: "1" for name in ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM")}
    given = " ".join(f"{name}={value}" for name, value in root.items())
    status, found = examined(cluster, mpirun=f"env {given} {mpirun}")
    assert status == 2
    assert ("fault", "launch") in {line[:2] for line in found}
    assert "mpirun has started 2 ranks" in found[0][2]


def test_two_ranks_on_one_core(cluster: Cluster) -> None:
    status, found = examined(cluster, "node1:2,node2:1", prefix="taskset -c 0")
    assert status == 2
    assert ("fault", "cores") in {line[:2] for line in found}
    assert any("ranks 0-1 on node1 are bound to 1 core (0) of " in words for *_, words in found)


@contextmanager
def granted(host: Host, microseconds: int, period: int) -> Iterator[None]:
    """Let the host's processes run for so long in each period, all together."""
    if not (CPU / "cpu.cfs_quota_us").exists():
        pytest.skip(f"a quota of cores needs {CPU}, of cgroups' first version")
    group = CPU / f"pretended-{host.pid}"
    group.mkdir()
    try:
        (group / "cpu.cfs_period_us").write_text(str(period))
        (group / "cpu.cfs_quota_us").write_text(str(microseconds))
        (group / "cgroup.procs").write_text(str(host.pid))
        yield
    finally:
        host.clear()
        (CPU / "cgroup.procs").write_text(str(host.pid))
        group.rmdir()


def test_a_quota_of_cores(cluster: Cluster) -> None:
    with granted(cluster.hosts[1], 100_000, 100_000):
        status, found = examined(cluster, "node1:1,node2:2")
    assert status == 0
    assert any(
        (level, check) == ("warning", "cores")
        and words.startswith("2 ranks for 1 core: the cgroup of node2 grants the time of no more")
        for level, check, words in found
    )


def test_a_slow_host(cluster: Cluster) -> None:
    # A processor without AVX. A quota would not do: the best product fits into what it grants.
    slow = "[[ $(hostname) == node1 ]] || export OPENBLAS_CORETYPE=Prescott"
    status, found = examined(cluster, prefix=f"bash -c '{slow}; exec \"$@\"' rank")
    assert status == 0
    assert any(
        (level, check) == ("warning", "speed") and words.startswith("rank 1 on node2 multiply at ")
        for level, check, words in found
    )
