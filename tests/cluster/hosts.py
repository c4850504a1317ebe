"""Pretended hosts on one Linux machine, to start ranks on, to cut off, and to switch off.

Each host has namespaces of its own for network, name, processes, mounts and shared memory, so its
own /dev/shm, /tmp and sshd. A bridge joins them; /run/shared is the disk that all of them see, and
it is memory. Nothing has a name outside the namespaces, and the kernel ends each process with the
one that started it. So all is gone with the process that made the cluster, even if that is killed.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHARED = "/run/shared"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROGRAMS = ("sshd", "ssh-keygen", "ip", "tc", "unshare", "nsenter", "setpriv")
NEEDS = "pretended hosts need root on Linux, and Debian's openssh-server and iproute2"
PATIENCE = 180  # seconds, for a machine that has much else to do
DIES_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")

# Of the bridge, the shared disk, and what sshd and ssh read on all hosts; with the hosts' names.
SWITCH = """
mount -t tmpfs tmpfs /run
mkdir -p /run/sshd /run/cluster /run/new-tmp /run/shared
mount -t tmpfs -o size=2g,mode=1777 tmpfs /run/shared
cd /run/cluster
ssh-keygen -q -t ed25519 -N '' -f host-key
cp host-key key-root
echo "127.0.0.1 localhost" >hosts
for name in "$@"; do echo "10.55.0.${name#node} $name" >>hosts; done
cat >ssh_config <<X
IdentityFile /run/cluster/key-%u
StrictHostKeyChecking no
UserKnownHostsFile /dev/null
LogLevel ERROR
X
cat >sshd_config <<X
HostKey /run/cluster/host-key
AuthorizedKeysFile /run/cluster/host-key.pub
StrictModes no
UsePAM no
MaxStartups 100
X
ip link set lo up
ip link add bridge type bridge
ip link set bridge up
touch ready
exec sleep infinity
"""

# Of a host: its name, the size of its /dev/shm, and the folders in /tmp that it is to see.
HOST = """
hostname "$1"
mount -t tmpfs -o "size=$2" tmpfs /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /run/new-tmp
name=$1
shift 2
for folder in "$@"; do
    mkdir -p "/run/new-tmp${folder#/tmp}"
    mount --bind "$folder" "/run/new-tmp${folder#/tmp}"
done
mount --move /run/new-tmp /tmp
mount --bind /run/cluster/hosts /etc/hosts
mount --bind /run/cluster/ssh_config /etc/ssh/ssh_config
exec /usr/sbin/sshd -D -f /run/cluster/sshd_config -o "PidFile=/run/cluster/$name.pid" \
    -E "/run/cluster/$name.log"
"""


def why_not() -> str:
    """What keeps this machine from pretending to be several; empty if nothing does."""
    lacks = [name for name in PROGRAMS if not shutil.which(name, path=SYSTEM_PATH)]
    if lacks:
        return f"{NEEDS}; here is no {lacks[0]}"
    if os.geteuid():
        return f"{NEEDS}; you are not root"
    tried = subprocess.run(["unshare", "--net", "--mount", "--pid", "true"], capture_output=True)
    return f"{NEEDS}; here root may make no namespaces" if tried.returncode else ""


class Host:
    """A machine of the cluster, by the name of node1, node2 ..."""

    def __init__(self, cluster: "Cluster", number: int) -> None:
        self.name, self._cluster, self._number = f"node{number}", cluster, number
        self._port = f"port{number}"  # of the bridge
        self.start()

    def start(self) -> None:
        """Switch the host on. Its /tmp and /dev/shm are empty."""
        switch, mark = self._cluster.switch, self._cluster.outside(f"/run/cluster/{self.name}.pid")
        mark.unlink(missing_ok=True)
        spaces = ("--net", "--uts", "--mount", "--pid", "--ipc", "--kill-child", "--mount-proc")
        self._holder = _start(
            *(*_enter(switch, "mount"), "unshare", *spaces, "sh", "-ec", HOST, "sh"),
            *(self.name, "1g", *self._cluster.visible),
        )
        self.pid = _first_child(self._holder)
        self._cluster.control(
            f"ip link add {self._port} type veth peer name eth0 netns {self.pid};"
            f"ip link set {self._port} master bridge up"
        )
        self.control(
            # The same at each start, as of a real machine: others remember it.
            f"ip link set eth0 address 02:00:00:00:00:{self._number:02x} up;"
            f"ip addr add 10.55.0.{self._number}/24 dev eth0; ip link set lo up"
        )
        _wait_for(mark.exists, f"sshd of {self.name}")

    @property
    def runs(self) -> bool:
        """Whether the host is switched on."""
        return self._holder.poll() is None

    def kill(self) -> None:
        """Pull the plug: no process says goodbye to those that it talks with elsewhere."""
        # With both its ends; else connections that nobody answers would keep it for minutes.
        self._cluster.control(f"ip link delete {self._port}")
        self._holder.kill()
        self._holder.wait()

    def cut(self) -> None:
        """Pull the network's cable."""
        self._cluster.control(f"ip link set {self._port} down")

    def mend(self) -> None:
        """Plug it in again."""
        self._cluster.control(f"ip link set {self._port} up")

    def rate(self, rate: str, latency: str = "50ms") -> None:
        """Let the cable carry so much each way, as in 1gbit; "" for all that it can."""
        how = f"tbf rate {rate} burst 256kb latency {latency}"
        for control, device in ((self.control, "eth0"), (self._cluster.control, self._port)):
            if rate:
                control(f"tc qdisc replace dev {device} root {how}")
            else:
                control(f"tc qdisc del dev {device} root 2>/dev/null || true")

    def control(self, commands: str) -> None:
        """Run commands of the machine's own `ip` and `tc` in the host's network."""
        subprocess.run([*_enter(self.pid, "net"), "sh", "-ec", commands], check=True)

    def start_command(self, command: str, **variables: str) -> "subprocess.Popen[str]":
        """Start a shell's command as if logged in there, in /run/shared; see `run`."""
        given = {"HOME": "/root", "USER": "root", "LANG": "C.UTF-8", "PATH": SYSTEM_PATH}
        words = [f"{name}={value}" for name, value in {**given, **variables}.items()]
        login = ("env", "-i", "-C", SHARED, *words, "bash", "-c", command)
        return _start(
            *(*_enter(self.pid, "mount", "uts", "net", "ipc", "pid"), *DIES_WITH_PARENT, *login),
            stdout=subprocess.PIPE,
        )

    def run(
        self, command: str, seconds: float = PATIENCE, **variables: str
    ) -> tuple[int, str, str]:
        """Run a shell's command with these variables: its status, output and errors."""
        return finish(self.start_command(command, **variables), seconds)

    @contextmanager
    def replaced(self, path: str, by: str = "") -> Iterator[None]:
        """Have the host see another file or folder at this path; an empty folder by default."""
        status, _, errors = self.run(
            f"mount --rbind {by} {path}" if by else f"mount -t tmpfs tmpfs {path}"
        )
        assert status == 0, errors
        try:
            yield
        finally:
            self.run(f"umount --lazy {path}")

    def clear(self) -> None:
        """End all processes of the host but its sshd."""
        self.run("kill -KILL -1")


class Cluster:
    """Hosts node1, node2 ..., joined by a bridge; a context manager that leaves nothing behind."""

    def __init__(self, count: int, visible: Sequence[Path] = ()) -> None:
        """The hosts see these folders even if they are in /tmp, as they do the project's."""
        folders = {path for path in (ROOT, Path(sys.prefix), *visible) if path.is_dir()}
        self.visible = sorted(str(path) for path in folders if path.is_relative_to("/tmp"))
        names = [f"node{number}" for number in range(1, count + 1)]
        self._process = _start("unshare", "--net", "--mount", "sh", "-ec", SWITCH, "sh", *names)
        self.switch = self._process.pid
        self.disk = self.outside(SHARED)  # the shared disk, as seen from outside
        self.hosts: list[Host] = []
        try:
            _wait_for(self.outside("/run/cluster/ready").exists, "the bridge", self._process)
            self.hosts += [Host(self, number) for number in range(1, count + 1)]
        except BaseException:
            self.close()
            raise

    def outside(self, path: str) -> Path:
        """A path on the shared disk, or elsewhere in /run, for processes outside the hosts."""
        return Path(f"/proc/{self.switch}/root{path}")

    def control(self, commands: str) -> None:
        """Run commands in the network that has the bridge."""
        subprocess.run([*_enter(self.switch, "net"), "sh", "-ec", commands], check=True)

    def recover(self) -> None:
        """End what runs, and make all hosts and links whole again."""
        for host in self.hosts:
            if host.runs:
                host.clear()
                host.mend()
                host.rate("")
            else:
                host.start()

    def close(self) -> None:
        """End all processes; with them go the namespaces and what is in them."""
        for process in [*(host._holder for host in self.hosts), self._process]:
            process.kill()
            process.communicate()

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def finish(process: "subprocess.Popen[str]", seconds: float = PATIENCE) -> tuple[int, str, str]:
    """Wait for a command's end: status, output and errors. One that hangs is an error."""
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        with suppress(subprocess.TimeoutExpired):  # what it has started still writes
            output, errors = process.communicate(timeout=1)
            raise AssertionError(f"hung for {seconds} s:\n{output}\n{errors}") from None
        raise AssertionError(f"hung for {seconds} s: {process.args!r}") from None
    return process.returncode, output, errors


def _start(*words: str, stdout: int = subprocess.DEVNULL) -> "subprocess.Popen[str]":
    """Start a program that the kernel kills when this thread ends. Ctrl-C is not for it."""
    return subprocess.Popen(
        [*DIES_WITH_PARENT, *words],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": SYSTEM_PATH},
        start_new_session=True,
    )


def _enter(pid: int, *spaces: str) -> list[str]:
    return ["nsenter", "--target", str(pid), *(f"--{space}" for space in spaces)]


def _first_child(process: "subprocess.Popen[str]") -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    _wait_for(lambda: bool(children.read_text()), "a host", process)
    return int(children.read_text().split()[0])


def _wait_for(
    condition: Callable[[], bool],
    what: str,
    process: "subprocess.Popen[str] | None" = None,
    seconds: float = 20,
) -> None:
    """Wait until the condition holds; an error if it never does, or if the process ends."""
    end = time.monotonic() + seconds
    while not condition():
        if process and process.poll() is not None:
            assert process.stderr
            raise AssertionError(f"no {what}: {process.stderr.read()}")
        assert time.monotonic() < end, f"no {what} in {seconds} s"
        time.sleep(0.01)


if __name__ == "__main__":  # for a look around: python tests/cluster/hosts.py 3
    if len(sys.argv) == 1:
        print(why_not())
        sys.exit()
    with Cluster(int(sys.argv[1])) as made:
        for host in made.hosts:
            print(f"{host.name}: nsenter -a -t {host.pid} bash", flush=True)
        with suppress(KeyboardInterrupt):
            signal.pause()
