"""What takes too long for each change: six ranks, slow links, full disks, clocks, other users."""

import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from hosts import PATIENCE, SHARED, Cluster, finish
from launcher import field, one_line
from ranks import FOLDERS, TRAIN, python, variables
from training import wait_for_step

pytestmark = [pytest.mark.cluster, pytest.mark.long]
SIX = "node1:2,node2:2,node3:2"


def mpirun(machines: str, mpi: str = "mpich") -> str:
    """Start training on these machines, as in node1:2,node2:1."""
    ranks = sum(int(machine[-1]) for machine in machines.split(","))
    command = python(mpi).replace("python", "mpirun")
    if mpi == "openmpi":
        command += " -x PYTHONPATH -x OPENBLAS_NUM_THREADS"
    return f"{command} -host {machines} -n {ranks} {python(mpi)} -m dist_vgg.train {TRAIN}"


@pytest.mark.parametrize("route", ["flat", "node"])
@pytest.mark.parametrize("mpi", FOLDERS)
def test_six_ranks(mpi: str, route: str, cluster: Cluster, expected: str) -> None:
    status, output, errors = cluster.hosts[0].run(
        f"{mpirun(SIX, mpi)} --route {route} --out {SHARED}/six-{mpi}-{route}", **variables(mpi)
    )
    assert status == 0, errors
    assert field(output, "ranks").startswith(f"6 on node1 (2), node2 (2), node3 (2), route {route}")
    assert field(output, "parameters") == expected


def test_a_slow_link_changes_nothing(cluster: Cluster, expected: str) -> None:
    cluster.hosts[1].rate("10mbit")
    status, output, errors = cluster.hosts[0].run(
        f"{mpirun('node1:1,node2:1,node3:1')} --out {SHARED}/slow", **variables()
    )
    assert status == 0, errors
    assert field(output, "parameters") == expected


def test_a_full_disk_on_one_host(cluster: Cluster, expected: str) -> None:
    first, *_ = cluster.hosts
    assert first.run("mkdir /tmp/small && mount -t tmpfs -o size=100k tmpfs /tmp/small")[0] == 0
    train = f"{mpirun('node1:1,node2:1')} --out /tmp/small/run"
    status, _, errors = first.run(train, **variables())
    assert status == 2
    assert "/tmp/small/run" in one_line(errors) and "No space left" in one_line(errors)
    assert first.run("mount -o remount,size=10m /tmp/small")[0] == 0
    status, output, errors = first.run(f"{train} --resume if-any", **variables())
    assert status == 0, errors
    assert "resumed at step" in output
    assert field(output, "parameters") == expected


def test_a_slow_host_is_waited_for(cluster: Cluster, expected: str) -> None:
    first, second, _ = cluster.hosts
    (cluster.disk / "hosts").write_text("node1:1\nnode2:2\n")
    # It stops for half of the time; the brackets keep this shell from stopping itself.
    to_all = "pkill -{} -f '[d]ist_vgg.train'; sleep 0.05; "
    throttle = second.start_command(
        f"while :; do {to_all.format('STOP')}{to_all.format('CONT')}done"
    )
    status, output, errors = first.run(
        f"{python()} -m dist_vgg.elastic --hostfile {SHARED}/hosts -n 3 -- "
        f"{TRAIN} --out {SHARED}/throttled",
        **variables(),
    )
    throttle.kill()
    assert status == 0, errors
    assert "elastic: " not in output
    assert field(output, "parameters") == expected


@pytest.mark.parametrize("hours", [-1, 1])
def test_clocks_that_differ(hours: int, cluster: Cluster, expected: str) -> None:
    first, second, _ = cluster.hosts
    second.run(
        "mkdir /tmp/clock && printf 'import time\\nnow = time.time\\n"
        f"time.time = lambda: now() + {3600 * hours}\\n' >/tmp/clock/sitecustomize.py"
    )
    given = variables()
    given["PYTHONPATH"] = f"/tmp/clock:{given['PYTHONPATH']}"
    (cluster.disk / "hosts").write_text("node1:1\nnode2:1\nnode3:1\n")
    run = f"clocks{hours}"
    process = first.start_command(
        f"{python()} -m dist_vgg.elastic --hostfile {SHARED}/hosts -n 3 -- "
        f"{TRAIN} --out {SHARED}/{run}",
        **given,
    )
    wait_for_step(cluster.disk / run, 4, PATIENCE)
    second.run("pkill -KILL -f dist_vgg.train")
    status, output, errors = finish(process)
    assert status == 0, errors
    assert "resumed at step" in output
    assert field(output, "parameters") == expected


def test_a_user_who_is_not_root(cluster: Cluster, expected: str) -> None:
    folder = cluster.outside("/run/cluster")
    (folder / "passwd").write_text(
        Path("/etc/passwd").read_text() + "ada:*:5555:5555::/tmp:/bin/bash\n"
    )
    cluster.hosts[0].run(
        f"cd /run/cluster && cp key-root key-ada && chown 5555 key-ada; chmod -R a+rX {SHARED}/data"
    )
    prefix = Path(sys.base_prefix)
    with ExitStack() as stack:
        for host in cluster.hosts:
            stack.enter_context(host.replaced("/etc/passwd", "/run/cluster/passwd"))
            if prefix.is_relative_to("/root"):  # where nobody else finds Python
                copy = f"/tmp/root/{prefix.relative_to('/root')}"
                host.run(f"mkdir -p {copy} && mount --bind {prefix} {copy}")
                stack.enter_context(host.replaced("/root", "/tmp/root"))
        user = "setpriv --reuid 5555 --regid 5555 --clear-groups env HOME=/tmp USER=ada"
        status, output, errors = cluster.hosts[0].run(
            f"{user} {mpirun('node1:1,node2:1,node3:1')} --out {SHARED}/ada", **variables()
        )
    assert status == 0, errors
    assert field(output, "parameters") == expected
    assert (cluster.disk / "ada" / "weights.h5").stat().st_uid == 5555


@pytest.mark.parametrize("turn", range(50))
def test_no_false_alarm(turn: int, cluster: Cluster) -> None:
    first, *_ = cluster.hosts
    (cluster.disk / "hosts").write_text("node1:2\nnode2:2\nnode3:2\n")
    load = "while :; do :; done & while :; do :; done & while :; do :; done &"
    busy = first.start_command(f"({load} wait) >/dev/null 2>&1")
    status, output, errors = first.run(
        f"{python()} -m dist_vgg.elastic --hostfile {SHARED}/hosts -n 6 -- "
        f"{TRAIN} --epochs 100 --out {SHARED}/undisturbed-{turn}",
        **variables(),
    )
    busy.kill()
    assert status == 0, errors
    assert "elastic: " not in output
