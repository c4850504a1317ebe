"""The pretended hosts themselves: apart from each other, joined by cables, and gone afterwards."""

import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hosts import ROOT, Cluster, why_not

pytestmark = pytest.mark.cluster
LOGIN = "ssh -o ConnectTimeout=2 node2 hostname"


def test_hosts_are_apart(cluster: Cluster) -> None:
    first, second, *_ = cluster.hosts
    assert first.run("hostname; touch /tmp/mine /dev/shm/mine /run/shared/ours")[1] == "node1\n"
    seen = second.run("hostname; ls -d /tmp/* /dev/shm/* /run/shared/ours")[1]
    assert seen.splitlines()[0] == "node2"
    assert "/run/shared/ours" in seen and "mine" not in seen
    assert second.run("ps -A -o comm=")[1] == "sshd\nps\n"
    assert (cluster.disk / "ours").exists()
    assert str(ROOT) in first.run(f"ls -d {ROOT}")[1]


def test_hosts_are_joined_by_cables(cluster: Cluster) -> None:
    first, second, *_ = cluster.hosts
    assert first.run(LOGIN) == (0, "node2\n", "")
    second.cut()
    assert first.run(LOGIN)[0] == 255
    second.mend()
    assert first.run(LOGIN) == (0, "node2\n", "")
    second.kill()
    assert first.run(LOGIN)[0] == 255
    second.start()
    assert first.run(LOGIN) == (0, "node2\n", "")


def test_a_cable_has_its_rate(cluster: Cluster) -> None:
    first, second, *_ = cluster.hosts
    second.rate("50mbit")
    start = time.monotonic()
    assert first.run("head -c 5000000 /dev/zero | ssh node2 'cat >/dev/null'")[0] == 0
    assert time.monotonic() - start > 0.7  # 40 Mbit, after a burst of 2


def test_nothing_remains_in_a_host(cluster: Cluster) -> None:
    host = cluster.hosts[2]
    host.run("(sleep 300 & setsid sleep 300 &) >/dev/null 2>&1")
    host.clear()
    assert "sleep" not in host.run("ps -A -o comm=")[1]


HOLDER = """
import signal, sys, time
sys.path.insert(0, sys.argv[1])
from hosts import Cluster
cluster = Cluster(2)
for host in cluster.hosts:
    host.start_command("sleep 300 & setsid sleep 300")
pids = [cluster.switch, *(host.pid for host in cluster.hosts)]
print(*pids, flush=True)
if sys.argv[2] == "fail":
    with cluster:
        raise SystemError
signal.pause()
"""


@pytest.mark.parametrize("end", ["kill", "interrupt", "fail"])
def test_all_is_gone_with_the_process_that_made_it(end: str) -> None:
    if why := why_not():
        pytest.skip(why)
    words = [sys.executable, "-S", "-c", HOLDER, str(Path(__file__).parent), end]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout
    pids = process.stdout.readline().split()
    spaces = {space for pid in pids for space in spaces_of(Path("/proc", pid))}
    assert len(spaces) == 6
    process.send_signal({"kill": signal.SIGKILL, "interrupt": signal.SIGINT}.get(end, 0))
    process.wait(timeout=10)
    process.stdout.close()
    deadline = time.monotonic() + 10
    # The kernel removes what no process is in.
    while any(spaces & spaces_of(path) for path in Path("/proc").glob("[0-9]*")):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def spaces_of(process: Path) -> set[Path]:
    """The namespaces of a process for network and mounts."""
    with suppress(OSError):  # it has ended
        return {(process / "ns" / kind).readlink() for kind in ("net", "mnt")}
    return set()
