"""The page's functions in a browser, each by itself, beside those in Python that they follow."""

from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page

from dist_vgg.formats import html
from dist_vgg.formats.trained import matrices
from dist_vgg.network.sequential import Sequential
from dist_vgg.state.precision import split
from dist_vgg.state.weights import Weights


def load(page: Page, weights: Weights, net: Sequential) -> None:
    """Give the page `window.logits(pixels)` and `window.pixels(picture)` of a network in int8."""
    script = "".join((html.PARTS / name).read_text(encoding="utf-8") for name in html.IN_WORKER[:3])
    vectors = split(weights.params, matrices(net))
    page.evaluate(
        f"""(given) => {{
            {script}
            const [facts, weights] = given;
            const network = readNetwork(facts, weights);
            window.logits = (pixels) => Array.from(forward(network, pixels).logits);
            window.maps = (pixels) => forward(network, pixels).blocks.map(
                (block) => ({{ ...block, values: Array.from(block.values) }}));
            window.pixels = (picture) => {{
                const pixels = prepared(picture, facts);
                return pixels && Array.from(pixels);
            }};
        }}""",
        [
            html.page_facts(weights, net),
            {name: html._base64(each) for name, each in vectors.items()},
        ],
    )


def logits(page: Page, pixels: np.ndarray) -> np.ndarray:
    """What the page's forward pass makes of images, (n, size, size, channels) bytes."""
    return np.array(
        [page.evaluate("pixels => window.logits(pixels)", each.ravel().tolist()) for each in pixels]
    )


def pixels(page: Page, path: Path) -> np.ndarray | None:
    """What the page's network sees of an image file that Pillow has decoded, flat."""
    with Image.open(path) as image:
        rgba = np.asarray(image.convert("RGBA"))
    height, width, _ = rgba.shape
    picture = dict(width=width, height=height, data=rgba.ravel().tolist())
    found = page.evaluate("picture => window.pixels(picture)", picture)
    return None if found is None else np.array(found)
