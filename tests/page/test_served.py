"""The served page: it posts what is drawn or brought, and shows what the server answers."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import answer, choose, draw, opened
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect
from predicting import some_weights

from dist_vgg.formats.html import page_facts, page_files
from dist_vgg.formats.trained import load_network

URL = "http://page.test/"


class Server:
    """Answers the page's requests as the program would."""

    def __init__(self) -> None:
        weights = some_weights()
        self.files = page_files(page_facts(weights, load_network(weights, "numpy")))
        self.asked: list[tuple[str, str, bytes]] = []
        self.error = ""

    def reply(self, route: Route) -> None:
        request = route.request
        path = request.url.removeprefix(URL)
        if not path.startswith("predict"):
            content, kind = self.files[path or "index.html"]
            route.fulfill(body=content, content_type=kind)
        elif self.error:
            route.fulfill(status=422, json={"error": self.error})
        else:
            self.asked.append((request.method, path, request.post_data_buffer or b""))
            route.fulfill(body=json.dumps(self.found("maps=1" in path)))

    def found(self, maps: bool) -> dict[str, Any]:
        """An answer: a 4 for sure, of grey pixels."""
        grey = base64.b64encode(bytes([100] * 32 * 32)).decode()
        shape = dict(layer="conv1_2", height=16, width=16, channels=4)
        return {
            "prediction": 4,
            "probabilities": [float(k == 4) for k in range(10)],
            "seen": {"size": 32, "channels": 1, "pixels": grey},
            **({"maps": [{**shape, "pixels": grey}]} if maps else {}),
        }


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def served(browser: Browser, server: Server) -> Iterator[Page]:
    refusals = "Failed to load resource: the server responded with a status of 422"
    with opened(browser, URL, refusals, route=server.reply) as page:
        yield page


def test_what_is_drawn_is_posted_as_a_picture(served: Page, server: Server) -> None:
    draw(served, 1)
    assert answer(served) == "4"
    method, path, body = server.asked[-1]
    assert (method, path) == ("POST", "predict?seen=1")
    with Image.open(io.BytesIO(body)) as image:
        assert image.format == "PNG" and image.convert("L").getextrema() == (0, 255)
    assert served.locator("#seen canvas").get_attribute("width") == "32"


def test_feature_maps_are_asked_for_once_they_are_to_be_seen(served: Page, server: Server) -> None:
    draw(served, 1)
    answer(served)
    assert not any("maps" in path for _, path, _ in server.asked)
    served.locator("summary").click()
    expect(served.locator(".grid")).to_have_attribute("aria-valuemax", "4")
    assert server.asked[-1][1] == "predict?seen=1&maps=1"


def test_a_file_is_posted_as_it_is_and_a_refusal_is_shown(
    served: Page, server: Server, tmp_path: Path
) -> None:
    path = tmp_path / "some.tiff"
    path.write_bytes(b"whatever it is")
    choose(served, path)
    assert answer(served) == "4"
    assert server.asked[-1][2] == b"whatever it is"
    server.error = "some.tiff is no image that Pillow can read"
    choose(served, path)
    expect(served.get_by_role("alert")).to_have_text(server.error)
    assert served.locator("#answer strong").count() == 0
