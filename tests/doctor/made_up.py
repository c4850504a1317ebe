"""Facts of sound hosts, made up, and how a fault changes them."""

import copy
from typing import Any

from dist_vgg.doctor.examination import judge
from dist_vgg.doctor.findings import FAULT, OK, WARNING, Finding

LEVELS = {"fault": FAULT, "warning": WARNING}


def sound(hosts: int = 2, each: int = 2, cores: int = 8) -> list[dict[str, Any]]:
    """All that ranks find on hosts on which nothing is wrong."""
    names = [f"node{i + 1}" for i in range(hosts)]
    addresses = {name: [f"10.0.0.{i + 1}"] for i, name in enumerate(names)}
    size = hosts * each
    return [copy.deepcopy(_rank(rank, names, addresses, size, each, cores)) for rank in range(size)]


def _rank(
    rank: int, names: list[str], addresses: dict[str, list[str]], size: int, each: int, cores: int
) -> dict[str, Any]:
    host = names[rank // each]
    versions = {
        "the version of dist_vgg": "0.1.0 (source 12345678)", "the version of NumPy": "2.4.6",
        "the kernels": "compiled 1", "the MPI library": "MPICH 5.0.2",
        "the version of Python": "3.11.7",
    }  # fmt: skip
    return dict(
        rank=rank,
        host=host,
        launch=dict(
            launcher="mpirun" if size > 1 else "", started=size, size=size, refusal="",
            library="MPICH 5.0.2", mpirun="/usr/bin/mpirun",
            mpirun_version="HYDRA build details:", slurm_tasks="",
        ),
        program=dict(versions=versions, error="", missing=""),
        cores=dict(bound=list(range(cores)), allowed=list(range(cores)), quota=0.0, load=0.1),
        network=dict(
            addresses=addresses, slow=0, reverse=addresses,
            interfaces={"lo": "127.0.0.1", "eth0": addresses[host][0]},
            used="eth0" if len(names) > 1 else "",
        ),
        memory=dict(
            needed=2 << 30 if each > 1 else 0, standby=300 << 20, free=16 << 30,
            available=32 << 30, kind="node" if each > 1 else "flat", no_standby="", error="",
        ),
        data=dict(error="", rate=500.0, bytes=60e6, facts={"the data set": "abc"}, shards=8),
        out=dict(
            error="", seen=True, kept_out=True, checkpoint_seconds=1.0,
            checkpoint_bytes=300 << 20, free=100 << 30,
        ),
        clocks=dict(times=[1e9 + i + 0.001 * rank for i in range(5)]),
        exchange=dict(
            kind="node", wrong="", seconds={"1024": 1e-4, "16777216": 0.02} if size > 1 else {}
        ),
        speed=dict(alone=100.0 + rank % 3, together=80.0, work=24.0, all=0.3),
        step=dict(
            error="", seconds=1.0, others=0.1, images=64, network="VGG16", micro_batch=8,
            sent=[[8 << k, 60e6 * (rank % each == 0)] for k in range(9)],
        ),
    )  # fmt: skip


def bad(world: list[dict[str, Any]]) -> list[Finding]:
    """What is judged to be wrong."""
    return [finding for finding in judge(world) if finding.level != OK]
