"""The pretended hosts that the tests here share, with data on their disk and the hash to expect.

The plain run of the tests leaves this folder out; launch/test-cluster.sh runs it.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts import SHARED, Cluster, why_not
from launcher import field
from ranks import FOLDERS, TRAIN, python, variables


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave these tests out unless they are asked for by -m cluster."""
    if "cluster" not in config.getoption("markexpr"):
        ours = [item for item in items if item.get_closest_marker("cluster")]
        items[:] = [item for item in items if item not in ours]
        config.hook.pytest_deselected(items=ours)


@pytest.fixture(scope="session")
def whole_cluster(data: Path) -> Iterator[Cluster]:
    """Three hosts, with the data on the disk that they share."""
    if why := why_not():
        pytest.skip(why)
    with Cluster(3, list(FOLDERS.values())) as cluster:
        shutil.copytree(data, cluster.disk / "data")
        yield cluster


@pytest.fixture
def cluster(whole_cluster: Cluster) -> Iterator[Cluster]:
    """Three hosts on which nothing runs, all of them and their links whole."""
    yield whole_cluster
    whole_cluster.recover()


@pytest.fixture(scope="session")
def expected(whole_cluster: Cluster) -> str:
    """The hash of the weights that a single process trains."""
    command = f"{python()} -m dist_vgg.train {TRAIN} --out {SHARED}/single"
    status, output, errors = whole_cluster.hosts[0].run(command, **variables())
    assert status == 0, errors
    return field(output, "parameters")
