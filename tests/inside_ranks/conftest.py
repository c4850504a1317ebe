"""What the checks on real ranks share."""

import exchanges
import pytest

from dist_vgg.exchange import nodes


@pytest.fixture(params=exchanges.NODES)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A route, on pretended nodes."""
    node_of = exchanges.NODES[request.param]
    if node_of is None:
        return "flat"
    monkeypatch.setattr(nodes, "neighbours", lambda c: c.Split(node_of(c.rank), c.rank))
    return "node"
