"""dist_vgg.chaos on three pretended hosts, which are switched off and cut off as well.

launch/test-cluster.sh --chaos starts it, with options of dist_vgg.chaos.
"""

import shlex
import sys
import threading
import time
from pathlib import Path

from hosts import SHARED, Cluster, why_not
from ranks import python, variables

# What ranks call to have a host struck: a wish on the shared disk, until it has come true.
BREAKER = """#!/bin/sh
wish=/run/shared/wishes/$(hostname)-$$
echo "$1 $2" >"$wish.new"
mv "$wish.new" "$wish"
while [ -e "$wish" ]; do sleep 0.05; done
"""


def grant(cluster: Cluster, wish: Path) -> None:
    """Do to a host what somebody wishes."""
    what, name = wish.read_text().split()
    host = next(host for host in cluster.hosts if host.name == name)
    if what == "off":
        host.kill()
    elif what == "cut":
        host.cut()
    else:
        host.clear() if host.runs else host.start()
        host.mend()
        host.run("rm -rf /dev/shm/*")
    wish.unlink()


def main() -> int:
    if why := why_not():
        print(why)
        return 2
    with Cluster(3) as cluster:
        wishes, breaker = cluster.disk / "wishes", cluster.disk / "breaker"
        wishes.mkdir()
        breaker.write_text(BREAKER)
        breaker.chmod(0o755)
        (cluster.disk / "hosts").write_text("node1\nnode2\nnode3\n")
        where = f"--hostfile {SHARED}/hosts --work {SHARED}/chaos --breaker {SHARED}/breaker"
        command = f"{python()} -m dist_vgg.chaos {where} {shlex.join(sys.argv[1:])} 2>&1"
        path = f"{Path(python()).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        process = cluster.hosts[0].start_command(command, **variables(), PATH=path)
        assert process.stdout
        lines = process.stdout

        def tell() -> None:
            for line in lines:
                print(line, end="", flush=True)

        teller = threading.Thread(target=tell)
        teller.start()
        while process.poll() is None:
            for wish in wishes.iterdir():
                if wish.suffix != ".new":
                    grant(cluster, wish)
            time.sleep(0.05)
        teller.join()
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
