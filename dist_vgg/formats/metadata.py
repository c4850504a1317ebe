"""What a file in another program's format says of its network, in strings.

The key `dist_vgg` has all fields of `Weights` but the parameters, as JSON; the other keys repeat
some of them for people and other programs.
"""

import json
from collections.abc import Mapping
from typing import Any

from dist_vgg.base import bounds
from dist_vgg.base.files import NotWhole
from dist_vgg.network.vgg import BLOCKS, VGG16
from dist_vgg.state.weights import ABSENT, WEIGHTS, Weights

KEY = "dist_vgg"
TEXTS = ("preparation", "source", "dataset", "sha256", "made_from", "precision", "kernels")
NUMBERS = ("mean", "std", "class_names", "step")


def facts(weights: Weights) -> dict[str, Any]:
    """The fields of the weights but the parameters, ready for JSON."""
    left_out = ("params", "layout")
    fields = {name: value for name, value in vars(weights).items() if name not in left_out}
    return {**fields, "network": {"name": VGG16, **weights.network}}


def describe(weights: Weights) -> dict[str, str]:
    """The metadata of an exported file, sorted by key."""
    fields = facts(weights)
    network = fields["network"]
    sizes = {name: json.dumps(network[name]) for name in ("size", "channels", "classes", "width")}
    return dict(
        sorted(
            {
                KEY: json.dumps({"kind": "weights", **fields}, sort_keys=True),
                "network": network["name"],
                **sizes,
                **{name: fields[name] for name in TEXTS},
                **{name: json.dumps(fields[name], ensure_ascii=False) for name in NUMBERS},
            }.items()
        )
    )


def read_facts(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The fields of `Weights` but the parameters, each checked by its rule.

    Raises NotWhole where they are missing, or are not what `describe` writes.
    """
    if KEY not in metadata:
        raise NotWhole("it has no metadata of dist_vgg")
    fields = bounds.parse_header(metadata[KEY], "weights", WEIGHTS, ABSENT)
    network = fields["network"]
    bounds.check_images(fields, network["channels"], network["classes"])
    if network.get("name", VGG16) not in BLOCKS:
        raise NotWhole("its network is unknown")
    return fields
