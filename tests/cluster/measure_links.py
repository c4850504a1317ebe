"""Scaling over two pretended hosts, by the rate of the link between them.

    python tests/cluster/measure_links.py --rates 1gbit,11gbit --micro-batch 32

For each rate it prints what `python -m dist_vgg.bench scaling` says of 1 and 2 ranks, one for each
host, and likewise for 2 ranks on one host. It needs root on Linux, see hosts.py. The hosts share
this machine's cores, which also do the work of the network.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from hosts import Cluster, why_not
from ranks import python, variables

ONE_HOST = "one-host"


def main() -> None:
    """Measure each rate in turn."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rates", default="1gbit,11gbit", help="of the link, as tc has them")
    parser.add_argument("--micro-batch", type=int, default=32)
    parser.add_argument("--repeat", type=int, default=6)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--cache", type=Path, help="a folder of compiled kernels to use")
    parser.add_argument("--out", type=Path, default=Path(), help="the folder for scaling-RATE.json")
    options = parser.parse_args()
    if why := why_not():
        parser.exit(2, f"{why}\n")
    visible = [options.cache.resolve()] if options.cache else []
    cache = {"DIST_VGG_CACHE": str(options.cache.resolve())} if options.cache else {}
    with Cluster(2, visible) as cluster:
        (cluster.disk / "hosts").write_text("node1:1\nnode2:1\n")
        for rate in (ONE_HOST, *options.rates.split(",")):
            for host in cluster.hosts:
                host.rate("" if rate == ONE_HOST else rate)
            command = (
                f"{python()} -m dist_vgg.bench scaling --ranks 1,2 --shards 8 "
                f"--micro-batch {options.micro_batch} --repeat {options.repeat} "
                f"--steps {options.steps} --json {rate}.json"
                + (" --hostfile hosts" if rate != ONE_HOST else "")
            )
            status, output, errors = cluster.hosts[0].run(command, 7200, **variables(), **cache)
            print(f"{rate}\n\n{output}{errors}", flush=True)
            if status:
                parser.exit(status)
            options.out.mkdir(parents=True, exist_ok=True)
            written = (cluster.disk / f"{rate}.json").read_text()
            (options.out / f"scaling-{rate}.json").write_text(written)


if __name__ == "__main__":
    main()
