"""A trained network as a page: one file that any browser opens, or the files that a server has.

The parts lie in page/. The file computes by itself, in JavaScript; the served page asks the server.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from dist_vgg.base.errors import UserError
from dist_vgg.base.files import write_bytes
from dist_vgg.formats.trained import matrices, round_weights, takes_pictures
from dist_vgg.network.layers import Conv, Linear, MaxPool
from dist_vgg.network.sequential import Sequential
from dist_vgg.state.precision import split
from dist_vgg.state.weights import Weights

PARTS = Path(__file__).parent / "page"
IN_WORKER = ("network.js", "digit.js", "picture.js", "worker.js")
LOCAL, SERVED = ("local.js", "maps.js", "page.js"), ("server.js", "maps.js", "page.js")
# What the served page may load; the server says it in a header as well.
SERVED_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'"
)
PREPARED = {
    "digit": "The digit is cut out, scaled and centred as MNIST’s digits were.",
    "crop": "The picture’s middle is cut out and scaled.",
    "pad": "The picture is scaled and framed in black.",
    "stretch": "Each side of the picture is scaled by itself.",
}
Facts = Mapping[str, Any]


def page_facts(weights: Weights, net: Sequential) -> Facts:
    """What the page knows of a network and its weights; `net` is their network.

    Raises UserError where a page can't make the network's images of a picture.
    """
    if not takes_pictures(weights):
        raise UserError(
            "the weights are for images of several channels and don't tell how they are made of a "
            "picture; a page needs what data_prep has prepared"
        )
    layers: list[dict[str, Any]] = []
    for layer in net.layers:
        if isinstance(layer, Conv | Linear):
            kind = "conv" if isinstance(layer, Conv) else "linear"
            *_, inputs, outputs = layer.weight_shape
            layers.append(dict(kind=kind, name=layer.name, inputs=inputs, outputs=outputs))
        elif isinstance(layer, MaxPool):
            layers.append(dict(kind="pool", name=layer.name))
    return dict(
        network=dict(weights.network),
        layers=layers,
        mean=list(weights.mean),
        std=list(weights.std),
        preparation=weights.preparation,
        classes=list(weights.class_names),
        source=weights.source,
        parameters=net.parameter_count,
        precision=weights.precision,
        sha256=weights.sha256,
    )


def write_html(path: Path, weights: Weights, net: Sequential) -> None:
    """Write a page that holds the weights, in int8, and computes by itself; `net` is their network.

    Raises UserError where the file can't be written, or as `page_facts` does.
    """
    weights = round_weights(weights, net, "int8")
    vectors = split(weights.params, matrices(net))
    coded = {name: _base64(vector) for name, vector in vectors.items()}
    facts = page_facts(weights, net)
    style, script = _part("page.css"), "".join(map(_part, LOCAL))
    page = _filled(
        facts,
        policy=(
            f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
            "worker-src blob:; img-src data: blob:; base-uri 'none'; form-action 'none'"
        ),
        where="in this page, on your own device; nothing is sent anywhere",
        style=f"<style>{style}</style>",
        data=_data("facts", facts)
        + _data("weights", coded)
        + f'<script type="text/plain" id="worker">{"".join(map(_part, IN_WORKER))}</script>',
        scripts=f"<script>{script}</script>",
    )
    write_bytes(path, page.encode())


def page_files(facts: Facts) -> dict[str, tuple[bytes, str]]:
    """The content and the media type of each file of the served page, by its path.

    The page is index.html. It posts pictures to `predict?seen=1`, with `&maps=1` for feature maps.
    """
    page = _filled(
        facts,
        policy=SERVED_POLICY,
        where="in the program that serves this page",
        style='<link rel="stylesheet" href="page.css">',
        data=_data("facts", facts),
        scripts="\n".join(f'<script src="{name}"></script>' for name in SERVED),
    )
    files = {"index.html": (page.encode(), "text/html; charset=utf-8")}
    files["page.css"] = _part("page.css").encode(), "text/css; charset=utf-8"
    for name in SERVED:
        files[name] = _part(name).encode(), "text/javascript; charset=utf-8"
    return files


def _filled(facts: Facts, where: str, **parts: str) -> str:
    """page.html with its places filled."""
    digit = facts["preparation"] == "digit"
    name = facts["network"].get("name", "vgg16").upper()
    title = "Draw a digit" if digit else "What is in the picture?"
    task = "reads the digit that you draw" if digit else "names what is in a picture"
    return Template(_part("page.html")).substitute(
        title=title,
        kind="digits" if digit else "pictures",
        prepared=PREPARED[facts["preparation"]],
        lead=f"A neural network, {name}, {task}. It runs {where}.",
        pad="A pad to draw a digit on" if digit else "The picture",
        hint="Draw a digit here" if digit else "Drop a picture here",
        note="Or drop or paste a picture of a digit. Escape clears."
        if digit
        else "Or drop or paste one. Escape clears.",
        footer=_footer(facts, name),
        **parts,
    )


def _footer(facts: Facts, name: str) -> str:
    """What network it is, in HTML."""
    network = facts["network"]
    return (
        f"<p>{name} of width {network['width']:g}, trained on {escape(facts['source'])} with "
        f"dist_vgg: {facts['parameters']:,} parameters in {facts['precision']}.</p>"
        f"<p>SHA-256 of the parameters: <code>{facts['sha256']}</code></p>"
    )


def _part(name: str) -> str:
    return (PARTS / name).read_text(encoding="utf-8")


def _data(name: str, value: Any) -> str:
    """A block of JSON in HTML, which nothing within can end."""
    text = json.dumps(value).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>\n'


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()


def _hash(text: str) -> str:
    """A script's or style's source as a Content-Security-Policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
