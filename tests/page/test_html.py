"""The page as a file: what it holds, what it may load, and which weights it refuses."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from predicting import some_weights

from dist_vgg.base.errors import UserError
from dist_vgg.formats.html import SERVED_POLICY, page_facts, page_files, write_html
from dist_vgg.formats.trained import load_network, matrices, round_weights
from dist_vgg.state.precision import join
from dist_vgg.state.weights import Weights


def write(path: Path, weights: Weights) -> str:
    write_html(path, weights, load_network(weights, "numpy"))
    return path.read_text(encoding="utf-8")


def block(page: str, name: str) -> Any:
    """The JSON of a block of data."""
    found = re.search(f'<script type="application/json" id="{name}">(.*)</script>', page)
    assert found
    return json.loads(found[1])


def test_it_holds_the_weights_in_int8_and_what_they_are(tmp_path: Path) -> None:
    weights = some_weights()
    net = load_network(weights, "numpy")
    page = write(tmp_path / "page.html", weights)
    rounded = round_weights(weights, net, "int8")
    types = dict(levels=np.int8, scales=np.float32, biases=np.float32)
    vectors = {
        name: np.frombuffer(base64.b64decode(text), types[name])
        for name, text in block(page, "weights").items()
    }
    np.testing.assert_array_equal(join(vectors, matrices(net)), rounded.params)
    assert block(page, "facts")["sha256"] == rounded.sha256
    assert rounded.sha256 in page.partition("<footer>")[2]
    assert len(page) < 1.5 * rounded.params.size + 60_000


def test_what_may_run_is_named_by_its_hash_and_nothing_may_be_requested(tmp_path: Path) -> None:
    page = write(tmp_path / "page.html", some_weights())
    policy = re.search('<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    assert policy and policy[1].startswith("default-src 'none'; script-src 'sha256-")
    for tag in ("script", "style"):
        (source,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy[1]
    assert "unsafe" not in page and "http://" not in page and "https://" not in page


def test_names_from_a_file_are_text_only(tmp_path: Path) -> None:
    weights = replace(
        some_weights(classes=2),
        class_names=("</script><script>alert(1)", "b"),
        source="<b>&",
        preparation="crop",
    )
    page = write(tmp_path / "page.html", weights)
    assert "</script><script>alert" not in page and "<b>&" not in page
    assert block(page, "facts")["classes"] == ["</script><script>alert(1)", "b"]
    assert "&lt;b&gt;&amp;" in page


def test_the_served_page_is_the_same_in_files() -> None:
    weights = some_weights()
    files = page_files(page_facts(weights, load_network(weights, "numpy")))
    page, kind = files["index.html"]
    assert kind == "text/html; charset=utf-8" and SERVED_POLICY in page.decode()
    linked = re.findall(r'(?:src|href)="([^":]+)"', page.decode())
    assert {*linked, "index.html"} == set(files)
    assert "unsafe" not in SERVED_POLICY and b'id="weights"' not in page


@pytest.mark.parametrize("channels, preparation", [(2, "crop"), (3, "digit")])
def test_images_that_no_picture_can_become_are_refused(
    tmp_path: Path, channels: int, preparation: str
) -> None:
    weights = replace(some_weights(channels=channels), preparation=preparation)
    with pytest.raises(UserError, match="several channels"):
        write(tmp_path / "page.html", weights)
    assert not list(tmp_path.iterdir())
