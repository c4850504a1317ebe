"""Ranks and hosts that are lost under the supervisor: it goes on, to the same weights."""

import json
import time

import pytest
from hosts import PATIENCE, SHARED, Cluster, Host, finish
from launcher import field
from ranks import TRAIN, python, variables
from training import wait_for_step

pytestmark = pytest.mark.cluster


def kill_a_rank(host: Host) -> None:
    assert host.run("kill -KILL $(pgrep -f '^[^ ]*python -m dist_vgg.train' | head -1)")[0] == 0


# What befalls node2, what is said of it, and where training goes on.
LOSSES = {
    "killed rank": (kill_a_rank, "starting again on", "node1 (1), node2 (1)"),
    "host switched off": (Host.kill, "no answer from node2", "node1 (1), node3 (1)"),
    "link cut": (Host.cut, "no answer from node2", "node1 (1), node3 (1)"),
}


@pytest.mark.parametrize(
    "loss",
    ["killed rank", pytest.param("host switched off", marks=pytest.mark.long), "link cut"],
)
def test_goes_on_after(loss: str, cluster: Cluster, expected: str) -> None:
    strike, words, places = LOSSES[loss]
    first, second, _ = cluster.hosts
    run = "lost-" + loss.replace(" ", "-")
    (cluster.disk / "hosts").write_text("node1:1\nnode2:1\nnode3:1\n")
    own = f"--hostfile {SHARED}/hosts -n 3 --max-restarts 2"
    process = first.start_command(
        f"{python()} -m dist_vgg.elastic {own} -- {TRAIN} --out {SHARED}/{run}",
        **variables(),
    )
    wait_for_step(cluster.disk / run, 4, PATIENCE)
    struck = time.time()
    strike(second)
    status, output, errors = finish(process)
    assert status == 0, errors
    assert words in output, output
    assert f" on {places}" in field(output, "ranks")
    assert field(output, "parameters") == expected
    lines = (cluster.disk / run / "elastic.jsonl").read_text().splitlines()
    events = [(event["event"], event["time"] - struck) for event in map(json.loads, lines)]
    assert [name for name, _ in events] == ["start", "ended", "start", "ended", "exit"]
    assert events[1][1] < 20  # known
    assert events[2][1] < 30  # training again
