"""Plans of chaos trials, for its tests."""

from dataclasses import replace
from typing import Any

from dist_vgg.chaos.plan import NARROW, Plan, draw


def plan_of(kind: str, **changes: Any) -> Plan:
    """Some plan of a kind of fault."""
    return replace(draw(0, 0, [kind], NARROW), **changes)
