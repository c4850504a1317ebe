"""The page that the server brings, in Chromium: what is drawn there is computed by the server."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import answer, choose, draw, opened
from drawings import seven, uneven
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from serving import Served


@pytest.fixture
def page(browser: Browser, server: Served) -> Iterator[Page]:
    with opened(browser, f"http://{server.host}:{server.port}/") as found:
        yield found


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_what_is_drawn_is_answered_with_feature_maps(page: Page) -> None:
    with page.expect_response("**/predict?seen=1") as first:
        draw(page, 7)
    assert first.value.ok
    assert answer(page) in set("0123456789")
    with page.expect_response("**/predict?seen=1&maps=1"):
        page.locator("#inside summary").click()
    expect(page.locator("#blocks figure")).to_have_count(5)


def test_a_picture_that_is_brought_gets_the_servers_answer(
    page: Page, server: Served, tmp_path: Path
) -> None:
    picture = png(uneven(seven()))
    (tmp_path / "seven.png").write_bytes(picture)
    choose(page, tmp_path / "seven.png")
    assert answer(page) == str(server.predict(picture)[1]["prediction"])


def test_the_servers_words_about_what_is_no_picture(
    browser: Browser, server: Served, tmp_path: Path
) -> None:
    (tmp_path / "text.png").write_text("seven")
    page = browser.new_page()  # not `opened`: Chromium notes the status in the console
    page.goto(f"http://{server.host}:{server.port}/")
    choose(page, tmp_path / "text.png")
    expect(page.locator("#problem")).to_contain_text("no image that Pillow can read")
    page.close()
